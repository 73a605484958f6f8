// What the extension module says of layers of training; `kernels/cpu_layer.py` is the only caller.
#pragma once

#include <nanobind/nanobind.h>

namespace macekit {

void bind_layers(nanobind::module_& module);

}  // namespace macekit
