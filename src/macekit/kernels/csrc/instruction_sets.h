// The kernels of every instruction set, and which of them this processor runs.
#pragma once

#include <string>
#include <vector>

#include "arguments.h"
#include "engine.h"

namespace macekit {

// Names of the instruction sets that this processor runs and for which there are kernels, the best first.
std::vector<std::string> instruction_sets();

// The kernels of one of them; std::invalid_argument for another name.
template <class T>
ConvolutionKernels<T> convolution_kernels_for(const std::string& instruction_set);
template <class T>
TableKernels<T> table_kernels_for(const std::string& instruction_set);
template <class T>
ContractionKernels<T> contraction_kernels_for(const std::string& instruction_set);
template <class T>
MatrixKernels<T> matrix_kernels_for(const std::string& instruction_set);
template <class T>
HarmonicKernels<T> harmonic_kernels_for(const std::string& instruction_set);
template <class T>
RadialKernels<T> radial_kernels_for(const std::string& instruction_set);
template <class T>
ReadoutKernels<T> readout_kernels_for(const std::string& instruction_set);
template <class T>
EngineKernels<T> engine_kernels_for(const std::string& instruction_set);

}  // namespace macekit
