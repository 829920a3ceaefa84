// SPDX-License-Identifier: Apache-2.0
#include "netio/preload/pass_on.h"

#include <dlfcn.h>

extern "C" [[gnu::weak]] void* dlsym(void*, const char*) noexcept;

namespace xfrmfs::netio::preload {

void* NextFunction::address() {
  void* found = address_.load(std::memory_order_relaxed);
  if (found == nullptr && &dlsym != nullptr) {
    found = dlsym(RTLD_NEXT, symbol_);
    address_.store(found, std::memory_order_relaxed);
  }
  return found;
}

}  // namespace xfrmfs::netio::preload
