// SPDX-License-Identifier: Apache-2.0
#include "syscall/user_copy_x86_64.h"

#if defined(__x86_64__)

// Nothing here touches the stack, so that a fault at any instruction can return from the fault label.
// rdi: to, rsi: from, rdx: size; rax, rcx, r8 and r9 are scratch. No wider moves: a client has
// just written its structure word by word, and a load that spans two stores waits for both.
asm(R"(
  .pushsection .text
  .hidden skep_user_copy
  .globl skep_user_copy
  .type skep_user_copy, @function
  .hidden skep_user_copy_string
  .globl skep_user_copy_string
  .type skep_user_copy_string, @function
  .hidden skep_user_all_zero
  .globl skep_user_all_zero
  .type skep_user_all_zero, @function
  .hidden skep_user_copy_begin
  .globl skep_user_copy_begin
  .hidden skep_user_copy_end
  .globl skep_user_copy_end
  .hidden skep_user_copy_fault
  .globl skep_user_copy_fault

  .p2align 4
skep_user_copy_begin:
skep_user_copy:
  cmpq $512, %rdx
  jae 4f
0:
  cmpq $32, %rdx
  jb 1f
  movq (%rsi), %rax
  movq 8(%rsi), %rcx
  movq 16(%rsi), %r8
  movq 24(%rsi), %r9
  movq %rax, (%rdi)
  movq %rcx, 8(%rdi)
  movq %r8, 16(%rdi)
  movq %r9, 24(%rdi)
  addq $32, %rsi
  addq $32, %rdi
  subq $32, %rdx
  jmp 0b
1:
  cmpq $8, %rdx
  jb 2f
  movq (%rsi), %rax
  movq %rax, (%rdi)
  addq $8, %rsi
  addq $8, %rdi
  subq $8, %rdx
  jnz 1b
  xorl %eax, %eax
  ret
2:
  testq %rdx, %rdx
  jz 3f
  movb (%rsi), %al
  movb %al, (%rdi)
  incq %rsi
  incq %rdi
  decq %rdx
  jmp 2b
3:
  xorl %eax, %eax
  ret
4:
  movq %rdx, %rcx
  rep movsb
  xorl %eax, %eax
  ret
  .size skep_user_copy, . - skep_user_copy

  .p2align 4
skep_user_copy_string:
  xorl %ecx, %ecx
5:
  cmpq %rdx, %rcx
  jae 6f
  movb (%rsi,%rcx), %al
  movb %al, (%rdi,%rcx)
  incq %rcx
  testb %al, %al
  jnz 5b
  movq %rcx, %rax
  ret
6:
  movq $-2, %rax
  ret
  .size skep_user_copy_string, . - skep_user_copy_string

  .p2align 4
skep_user_all_zero:
  xorl %eax, %eax
  xorl %ecx, %ecx
7:
  cmpq $16, %rsi
  jb 8f
  orq (%rdi), %rax
  orq 8(%rdi), %rcx
  addq $16, %rdi
  subq $16, %rsi
  jmp 7b
8:
  testq %rsi, %rsi
  jz 9f
  movzbl (%rdi), %edx
  orq %rdx, %rax
  incq %rdi
  decq %rsi
  jmp 8b
9:
  xorl %edx, %edx
  orq %rcx, %rax
  sete %dl
  movl %edx, %eax
  ret
  .size skep_user_all_zero, . - skep_user_all_zero
skep_user_copy_end:

skep_user_copy_fault:
  movq $-1, %rax
  ret
  .popsection
)");

#endif
