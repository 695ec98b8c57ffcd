// Memory aligned for vector loads.
#pragma once

#include <cstddef>
#include <new>
#include <vector>

namespace larq_sks {

// 64 bytes: a cache line, and the widest vector of AVX-512.
template <class T>
struct AlignedAllocator {
  using value_type = T;
  AlignedAllocator() = default;
  template <class U>
  AlignedAllocator(const AlignedAllocator<U>&) {}
  T* allocate(size_t count) {
    if (count > size_t{0x7fffffffffff} / sizeof(T)) throw std::bad_alloc();
    return static_cast<T*>(::operator new(count * sizeof(T), std::align_val_t{64}));
  }
  void deallocate(T* data, size_t) { ::operator delete(data, std::align_val_t{64}); }
  template <class U>
  bool operator==(const AlignedAllocator<U>&) const { return true; }
  template <class U>
  bool operator!=(const AlignedAllocator<U>&) const { return false; }
};

template <class T>
using Buffer = std::vector<T, AlignedAllocator<T>>;

}  // namespace larq_sks
