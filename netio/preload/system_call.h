// SPDX-License-Identifier: Apache-2.0
// How does the adapter enter the kernel without the C library?
//
// Its private work must touch neither errno nor a function that the program or another preloaded
// library has replaced, and must not be a cancellation point. Two architectures are known; calls
// are chosen so that both have them.

#pragma once

#include <asm/unistd.h>

namespace xfrmfs::netio::preload {

inline long as_word(const void* pointer) {
  return reinterpret_cast<long>(pointer);
}
inline long as_word(int value) {
  return value;
}
inline long as_word(long value) {
  return value;
}
inline long as_word(unsigned value) {
  return static_cast<long>(value);
}
inline long as_word(unsigned long value) {
  return static_cast<long>(value);
}

#if defined(__x86_64__)
inline long enter_kernel(long number, long a, long b, long c, long d, long e, long f) {
  register long r10 __asm__("r10") = d;
  register long r8 __asm__("r8") = e;
  register long r9 __asm__("r9") = f;
  long result = number;
  __asm__ volatile("syscall"
                   : "+a"(result)
                   : "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                   : "rcx", "r11", "memory");
  return result;
}
#elif defined(__aarch64__)
inline long enter_kernel(long number, long a, long b, long c, long d, long e, long f) {
  register long x8 __asm__("x8") = number;
  register long x0 __asm__("x0") = a;
  register long x1 __asm__("x1") = b;
  register long x2 __asm__("x2") = c;
  register long x3 __asm__("x3") = d;
  register long x4 __asm__("x4") = e;
  register long x5 __asm__("x5") = f;
  __asm__ volatile("svc 0"
                   : "+r"(x0)
                   : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5)
                   : "memory");
  return x0;
}
#else
#error "the client adapter knows x86-64 and aarch64"
#endif

inline constexpr unsigned kMostArguments = 6;

/// The kernel's answer: a result, or an errno as a negative number. Any thread, any signal handler.
template <typename... Arguments>
long system_call(long number, Arguments... arguments) {
  static_assert(sizeof...(Arguments) <= kMostArguments);
  const long words[kMostArguments] = {as_word(arguments)...};
  return enter_kernel(number, words[0], words[1], words[2], words[3], words[4], words[5]);
}

}  // namespace xfrmfs::netio::preload
