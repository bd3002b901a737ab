#pragma once

#include <nanobind/nanobind.h>

/// Adds FieldMlp to the native module.
void bind_fields(nanobind::module_& m);
