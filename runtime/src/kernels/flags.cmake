# Each of these files is for CPUs with certain instructions; dispatch.cc looks for them before it calls one.
if(CMAKE_SYSTEM_PROCESSOR MATCHES "^(x86_64|AMD64|amd64)$")
  set(POPCNT -mpopcnt)
  set(AVX2 ${POPCNT} -mavx2)
  set(AVX512 ${AVX2} -mavx512f -mavx512bw -mavx512dq -mavx512vl -mavx512vpopcntdq -mavx512vbmi)
  if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
    # GCC's own header makes its "undefined" vectors in a way that GCC warns about.
    list(APPEND AVX512 -Wno-uninitialized -Wno-maybe-uninitialized)
  endif()
  set_source_files_properties(src/kernels/popcnt.cc PROPERTIES COMPILE_OPTIONS "${POPCNT}")
  set_source_files_properties(src/kernels/avx2.cc PROPERTIES COMPILE_OPTIONS "${AVX2}")
  set_source_files_properties(src/kernels/avx512.cc PROPERTIES COMPILE_OPTIONS "${AVX512}")
endif()
