#!/bin/sh
# A participant of a chat: says what it reads from stdin, and prints what is said.
#
#    chat.sh KEY NAME
[ $# = 2 ] || { echo "usage: chat.sh KEY NAME" >&2; exit 2; }
export GODWIT_HOME="$1"
name=$2
say() { godwit out "(\"say\", \"$name\", \"$(printf %s "$1" | sed 's/[\\"]/\\&/g')\")" --space chat; }

folder=$(mktemp -d)
trap 'kill $watcher 2> /dev/null; rm -rf "$folder"' EXIT
mkfifo "$folder/said" "$folder/begun"
godwit watch '("say", ?string, ?string)' --space chat > "$folder/said" 2> "$folder/begun" &
watcher=$!
# ("say", "ada", "hello") -> ada: hello
sed -u 's/^("say", "//; s/", "/: /; s/")$//; s/\\\(["\]\)/\1/g' < "$folder/said" &
read -r _ < "$folder/begun"

say "(has come)"
while IFS= read -r line; do say "$line"; done
say "(leaves)"
