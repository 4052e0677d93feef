# Code built with one instruction set's flags must not define symbols that the linker may merge with
# another's (inline functions, templates): on a lesser machine they would be illegal instructions.
# cmake -DNM=nm "-DOBJECTS=a.o;b.o" -P isa_symbols.cmake
set(checked 0)
foreach(object ${OBJECTS})
  if(NOT object MATCHES "kernels_(avx2|avx512)")
    continue()
  endif()
  math(EXPR checked "${checked} + 1")
  execute_process(COMMAND ${NM} --defined-only --demangle ${object}
    OUTPUT_VARIABLE symbols COMMAND_ERROR_IS_FATAL ANY)
  string(REGEX MATCHALL "[^\n]* [WVuTD] [^\n]*" external "${symbols}")
  list(FILTER external EXCLUDE REGEX " T monet::kernels::Avx(2|512)Kernels\\(\\)$")
  if(external)
    message(FATAL_ERROR "${object} defines external symbols: ${external}")
  endif()
endforeach()
if(NOT checked EQUAL 2)
  message(FATAL_ERROR "expected two objects of instruction sets, found ${checked}")
endif()
