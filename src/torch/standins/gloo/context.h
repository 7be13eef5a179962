// Stand-ins for the few names of Gloo that libtorch's `ProcessGroupGloo.hpp` mentions. libtorch's binary release has Gloo compiled in and
// leaves its headers out. Nothing here is called or built upon from this side; Gloo's own headers are taken where they are installed.
#pragma once

#include <chrono>

namespace gloo {

class Context {
 public:
  void setTimeout(std::chrono::milliseconds timeout);
  std::chrono::milliseconds getTimeout() const;
};

} // namespace gloo
