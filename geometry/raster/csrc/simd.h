// Runtime choice of instruction set: the function is compiled several times and the loader picks one.
#pragma once

#if defined(__x86_64__) && defined(__linux__) && defined(__GNUC__) && !defined(__clang__) && !defined(HL_NO_CLONES)
#define HL_CLONES __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define HL_CLONES
#endif
