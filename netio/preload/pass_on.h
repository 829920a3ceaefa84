// SPDX-License-Identifier: Apache-2.0
// Where does a call go that is none of our business?
//
// To the function that the program would have reached without us: dlsym(RTLD_NEXT), which also
// honours other preloaded libraries. Addresses are looked up once, when the library is loaded, so
// that no later call enters the dynamic linker: receive functions may be called in signal
// handlers and between fork and exec. Where the program offers no dlsym (a C library of old with
// a separate libdl), the kernel itself is next.

#pragma once

#include <atomic>

#include <errno.h>

#include "netio/preload/system_call.h"

namespace xfrmfs::netio::preload {

/// Sets errno; -1, for `return fail(...)`.
inline int fail(int error) {
  errno = error;
  return -1;
}

/// What a system call answered, as the C library says it. Errors are -1 .. -4095 (man 2 intro).
inline long as_library_result(long result) {
  return result < 0 && result >= -4095 ? fail(static_cast<int>(-result)) : result;
}

/// One function that we stand in front of.
class NextFunction {
 public:
  /// `number` of the equal system call, -1 if there is none.
  constexpr NextFunction(const char* symbol, long number) : symbol_(symbol), number_(number) {}

  /// Finds the function; nullptr if no library behind us has it.
  void* address();

  template <typename Result, typename... Arguments>
  Result call(Arguments... arguments) {
    if (void* const function = address()) {
      return reinterpret_cast<Result (*)(Arguments...)>(function)(arguments...);
    }
    if constexpr (sizeof...(Arguments) <= kMostArguments) {
      if (number_ >= 0) {
        return static_cast<Result>(as_library_result(system_call(number_, arguments...)));
      }
    }
    return fail(ENOSYS);
  }

 private:
  const char* symbol_;
  long number_;
  std::atomic<void*> address_ = nullptr;  // written any number of times, always with one value
};

}  // namespace xfrmfs::netio::preload
