#!/bin/sh
# The library shows exactly the names of calls.def, needs nothing of a C++ runtime, and has no constructor but the one
# that wakes it. exports.sh LIBRARY CALLS.DEF
set -e
wanted=$(grep -Eo '^(CALL|ALIAS|TYPED)\(.*' "$2" | grep -Eo '(CALL|ALIAS|TYPED)\([A-Za-z0-9_]+' | sed 's/.*(//' | sort)
shown=$(nm -D --defined-only "$1" | awk '{print $3}' | sort)
[ "$wanted" = "$shown" ] || { echo "exports differ from calls.def:"; echo "$wanted" >/tmp/w.$$; echo "$shown" | diff /tmp/w.$$ - ; rm -f /tmp/w.$$; exit 1; }
if nm -D --undefined-only "$1" | grep -E ' (_Z|__cxa_(throw|begin|end|guard)|__gxx|_Unwind)'; then echo "needs a C++ runtime"; exit 1; fi
size=$(readelf -W -S "$1" | awk '/\.init_array/ {for (i = 1; i <= NF; ++i) if ($i == "INIT_ARRAY") print $(i + 3)}')
[ "$size" = 000010 ] || { echo "init_array is $size bytes: a global constructor crept in"; exit 1; }
