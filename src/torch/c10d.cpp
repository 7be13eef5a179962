// libtorch's own `c10d`: a store that processes meet at, and Gloo's collectives between them.

#include "c10d.hpp"

#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>

#include <cstdlib>

using Store = c10::intrusive_ptr<c10d::Store>;
using Group = c10::intrusive_ptr<wsi::Group>;
using Works = std::vector<c10::intrusive_ptr<c10d::Work>>;

namespace {

// All of them: after the first that fails the tensors of the others must not be freed under Gloo's threads.
void wait(const Works& works) {
  std::exception_ptr first;
  for (const auto& work : works) {
    try {
      work->wait();
    } catch (...) {
      if (!first) first = std::current_exception();
    }
  }
  if (first) std::rethrow_exception(first);
}

// One collective a tensor, all on their way at once.
template <class Collective>
Works start(const Group& group, at::Tensor* const* tensors, size_t count, const Collective& collective) {
  group->check();
  Works works;
  const std::lock_guard guard(wsi::queueing);
  for (size_t index = 0; index < count; ++index) {
    std::vector<at::Tensor> one{*tensors[index]};
    works.push_back(collective(one));
  }
  return works;
}

} // namespace

extern "C" {

// `listener`: a bound and listening socket that the store's server takes over; -1 connects to the server of another process.
char* wsi_store_open(const char* host, uint16_t port, int listener, int64_t timeout_ms, const char* prefix, Store** store) {
  return wsi::guarded([&] {
    c10d::TCPStoreOptions options;
    options.port = port;
    options.isServer = listener >= 0;
    if (listener >= 0) options.masterListenFd = listener;
    options.waitWorkers = false;
    options.timeout = std::chrono::milliseconds(timeout_ms);
    Store tcp = c10::make_intrusive<c10d::TCPStore>(host, options);
    *store = new Store(c10::make_intrusive<c10d::PrefixStore>(prefix, tcp));
  });
}

// The same store over a connection of its own, so that one thread's waiting does not hold up another's.
char* wsi_store_clone(const Store* store, Store** clone) {
  return wsi::guarded([&] { *clone = new Store((*store)->clone()); });
}

void wsi_store_free(Store* store) { delete store; }

char* wsi_store_set(const Store* store, const char* key, const uint8_t* data, size_t length) {
  return wsi::guarded([&] { (*store)->set(key, std::vector<uint8_t>(data, data + length)); });
}

// Waits for the key. `data` is from `malloc`, for the caller to free.
char* wsi_store_get(const Store* store, const char* key, int64_t timeout_ms, uint8_t** data, size_t* length) {
  return wsi::guarded([&] {
    (*store)->wait({key}, std::chrono::milliseconds(timeout_ms));
    const auto value = (*store)->get(key);
    *length = value.size();
    *data = static_cast<uint8_t*>(std::malloc(value.size() + 1));
    TORCH_CHECK(*data != nullptr, "no memory for ", value.size(), " bytes");
    std::memcpy(*data, value.data(), value.size());
  });
}

char* wsi_store_add(const Store* store, const char* key, int64_t amount, int64_t* sum) {
  return wsi::guarded([&] { *sum = (*store)->add(key, amount); });
}

// `host`: the address of this machine that the others reach; `interface`: or its network interface; neither lets Gloo choose.
char* wsi_gloo_open(const Store* store, int rank, int size, const char* host, const char* interface, int64_t timeout_ms, Group** group) {
  return wsi::guarded([&] {
    auto options = c10d::ProcessGroupGloo::Options::create(std::chrono::milliseconds(timeout_ms));
    options->devices.push_back(host ? c10d::ProcessGroupGloo::createDeviceForHostname(host)
                               : interface ? c10d::ProcessGroupGloo::createDeviceForInterface(interface)
                                           : c10d::ProcessGroupGloo::createDefaultDevice());
    auto made = c10::make_intrusive<wsi::Group>();
    made->gloo = c10::make_intrusive<c10d::ProcessGroupGloo>(*store, rank, size, options);
    *group = new Group(std::move(made));
  });
}

void wsi_gloo_free(Group* group) { delete group; }

// Each tensor becomes the sum of those of all ranks, the same bits on every rank.
char* wsi_gloo_sum(const Group* group, at::Tensor* const* tensors, size_t count) {
  return wsi::guarded([&] {
    wait(start(*group, tensors, count, [&](std::vector<at::Tensor>& one) { return (*group)->gloo->allreduce(one); }));
  });
}

// Each tensor becomes that of rank 0.
char* wsi_gloo_broadcast(const Group* group, at::Tensor* const* tensors, size_t count) {
  return wsi::guarded([&] {
    wait(start(*group, tensors, count, [&](std::vector<at::Tensor>& one) { return (*group)->gloo->broadcast(one); }));
  });
}

// `gathered [W,…]` becomes the tensors `own […]` of all ranks.
char* wsi_gloo_gather(const Group* group, at::Tensor* gathered, at::Tensor* own) {
  return wsi::guarded([&] {
    wait({(*group)->gather(gathered->unbind(0), *own)});
  });
}
}
