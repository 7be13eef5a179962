// What today's headers of GCC and glibc ask for and older libraries lack: GLIBC_2.32, GLIBCXX_3.4.26 and 3.4.29, CXXABI_1.3.13. Linked
// into the program of the archive only, where these few stand before the libraries' own. Hidden: no other library sees them.

#include <exception>
#include <new>
#include <sstream>

#define HIDDEN extern "C" __attribute__((visibility("hidden")))

// Since glibc 2.32: whether the process has one thread, so that counters need no atomic instructions. "No" is always right.
HIDDEN char __libc_single_threaded;
char __libc_single_threaded = 0;

// Since GCC 11: std::__throw_bad_array_new_length().
HIDDEN void throw_bad_array_new_length() __asm__("_ZSt28__throw_bad_array_new_lengthv");
void throw_bad_array_new_length() { throw std::bad_array_new_length(); }

// Since GCC 9: std::ostringstream's constructor without arguments.
HIDDEN void make_ostringstream(void *self) __asm__("_ZNSt7__cxx1119basic_ostringstreamIcSt11char_traitsIcESaIcEEC1Ev");
void make_ostringstream(void *self) { new (self) std::ostringstream(std::ios_base::out); }

// Since GCC 11: the counting inside std::exception_ptr. Its copy constructor counts up and its destructor down, in every release.
extern "C" void copy_exception(void *self, const void *other) __asm__("_ZNSt15__exception_ptr13exception_ptrC1ERKS0_");
extern "C" void drop_exception(void *self) __asm__("_ZNSt15__exception_ptr13exception_ptrD1Ev");

HIDDEN void add_reference(void *self) __asm__("_ZNSt15__exception_ptr13exception_ptr9_M_addrefEv");
void add_reference(void *self) {
  void *copy;
  copy_exception(&copy, self);
}

HIDDEN void release(void *self) __asm__("_ZNSt15__exception_ptr13exception_ptr10_M_releaseEv");
void release(void *self) {
  drop_exception(self);
  *static_cast<void **>(self) = nullptr;
}
