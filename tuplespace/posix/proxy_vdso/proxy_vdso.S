// A vdso of our own: what AT_SYSINFO_EHDR points to in programs of a pod. Its functions jump through slots
// to the real vdso of the host that the program is on, or, where that has none, make the system call.
// So neither code nor data of a kernel's vdso is ever part of a program's image.
    .text
    .macro function name slot number
    .globl __vdso_\name
    .type __vdso_\name, @function
__vdso_\name:
    jmp *\slot(%rip)
    .size __vdso_\name, . - __vdso_\name
call_\name:
    mov $\number, %eax
    syscall
    ret
    .endm

    function clock_gettime slot0 228
    function gettimeofday  slot1 96
    function time          slot2 201
    function getcpu        slot3 309
    function clock_getres  slot4 229

    .balign 16
    .ascii "GODWIT PROXYVDSO"      // 16 bytes; found by these
slots:
slot0: .quad 0
slot1: .quad 0
slot2: .quad 0
slot3: .quad 0
slot4: .quad 0
    // Distance of the system call from `slots`, for a slot that the real vdso cannot fill.
    .long call_clock_gettime - slots
    .long call_gettimeofday - slots
    .long call_time - slots
    .long call_getcpu - slots
    .long call_clock_getres - slots
