// What the extension module says of layers and read-outs in training, to `kernels/cpu_layer.py` and `kernels/cpu_readouts.py`.
#pragma once

#include <nanobind/nanobind.h>

namespace macekit {

void bind_layers(nanobind::module_& module);

}  // namespace macekit
