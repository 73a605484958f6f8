// What the extension module says of the engine; `kernels/engine.py` is the only caller.
#pragma once

#include <nanobind/nanobind.h>

namespace macekit {

void bind_engine(nanobind::module_& module);

}  // namespace macekit
