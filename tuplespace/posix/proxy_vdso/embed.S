// The linked proxy as bytes.
    .section .rodata
    .globl godwit_proxy_vdso, godwit_proxy_vdso_end
    .hidden godwit_proxy_vdso, godwit_proxy_vdso_end
    .balign 16
godwit_proxy_vdso:
    .incbin PROXY_VDSO_FILE
godwit_proxy_vdso_end:
    .section .note.GNU-stack, "", @progbits
