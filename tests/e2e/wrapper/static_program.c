// Statically linked: the wrapper cannot be loaded into it.
#include <stdio.h>
int main(void) {
  puts("static");
  return 5;
}
