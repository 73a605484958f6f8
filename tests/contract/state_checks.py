"""Nothing changes but the return value, and that has the shape and type it is documented to have."""

from __future__ import annotations

import random

import numpy as np
import torch

import structures as named
from contract.subject import PER_ATOM, Subject, assert_same_bits, same_bits
from macekit.data import Structure
from macekit.geometry.graph import Graph
from tolerances import Tolerance, assert_close


def _global_state() -> dict[str, object]:
    return {
        "torch random state": torch.get_rng_state().tolist(),
        "numpy random state": str(np.random.get_state()),  # noqa: NPY002 - the global state is what is watched
        "random state": random.getstate(),
        "default dtype": torch.get_default_dtype(),
        "gradient mode": torch.is_grad_enabled(),
        "inference mode": torch.is_inference_mode_enabled(),
        "threads": torch.get_num_threads(),
        "matmul precision": torch.get_float32_matmul_precision(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "flush denormal": float(torch.tensor(1e-310, dtype=torch.float64)) != 0.0,
    }


def check_nothing_changes(subject: Subject, graph: Graph) -> None:
    """Input, model, configuration and process are as before; the same call gives the same bits."""
    before = Graph(*(tensor.clone() for tensor in graph))
    versions = [tensor._version for tensor in graph]
    weights = {name: value.clone() for name, value in subject.model.state_dict().items()}
    texts = subject.model.config.model_dump_json(), subject.model.facts.model_dump_json()
    process = _global_state()
    first = subject(graph)
    assert _global_state() == process, "the process is not as before"
    for name, tensor, old, version in zip(graph._fields, graph, before, versions, strict=True):
        assert same_bits(tensor, old) and tensor._version == version, f"the graph's {name} was changed"
        assert not tensor.requires_grad and tensor.grad is None, f"the graph's {name} takes part in derivatives"
    for name, value in subject.model.state_dict().items():
        assert torch.equal(value, weights[name]), f"{name} was changed"
    assert all(p.grad is None for p in subject.model.parameters()), "gradients were left on the weights"
    assert (subject.model.config.model_dump_json(), subject.model.facts.model_dump_json()) == texts
    second = subject(graph)
    assert_same_bits(second, first, "a second call")
    inputs = {tensor.untyped_storage().data_ptr() for tensor in graph if tensor.numel()}
    for name, value in first.items():
        assert not value.requires_grad, f"{name} keeps the graph of operations alive"
        assert value.numel() == 0 or value.untyped_storage().data_ptr() not in inputs, f"{name} aliases the input"


def check_modes_agree(subject: Subject, graph: Graph) -> None:
    """Train and eval mode, with gradients and without, give the same bits."""
    expected = subject(graph)
    was_training = subject.model.training
    try:
        subject.model.train()
        assert_same_bits(subject(graph), expected, "train mode")
    finally:
        subject.model.train(was_training)
    with torch.no_grad():
        assert_same_bits(subject(graph), expected, "under no_grad")
    with torch.inference_mode():
        assert_same_bits(subject(Graph(*(tensor.clone() for tensor in graph))), expected, "in inference mode")
    tolerance = Tolerance.SUM if subject.is_double else Tolerance.F32_BATCH
    for name, value in subject(graph, training=True).items():
        assert_close(value, expected[name], tolerance, f"for training: {name}")


def check_shapes(subject: Subject, structures: list[Structure]) -> None:
    """Every output has all its axes, is float64, and says nothing it does not know."""
    graph = subject.graph(*structures)
    sizes = {"N": graph.num_nodes, "G": graph.num_graphs}
    facts = subject.model.facts.targets
    tails = {
        "y_graph_scalars": (len(facts.y_graph_scalars),),
        "y_graph_scalars::nodes": (len(facts.y_graph_scalars),),
        "y_graph_scalars::std": (len(facts.y_graph_scalars),),
        "y_graph_vector": (3,),
        "y_node_scalars": (len(facts.y_node_scalars),),
        "y_node_vector": (3,),
        "stress": (3, 3),
    }
    outputs = subject(graph)
    for name, value in outputs.items():
        expected = (sizes["N" if name in PER_ATOM else "G"], *tails[name])
        assert tuple(value.shape) == expected, f"{name} is {list(value.shape)}, expected {list(expected)}"
        assert value.dtype == torch.float64, f"{name} is {value.dtype}, expected torch.float64"
        known = value
        if name == "stress":
            has_volume = graph.pbc.any(1) & (torch.linalg.det(graph.cell) != 0.0)
            assert bool(value[~has_volume].isnan().all()), "a stress without a volume"
            known = value[has_volume]
        assert bool(known.isfinite().all()), f"{name} is not finite"
        if name.endswith("::std"):
            atoms = graph.nodes_per_graph()
            assert bool((value[atoms > 0] > 0.0).all()), "a standard deviation that is not positive"
            assert bool((value[atoms == 0] == 0.0).all()), "a standard deviation of nothing"


SMALLEST: dict[str, list[Structure]] = {
    "nothing": [named.zero_atoms()],
    "one atom": [named.single_atom()],
    "no edges": [named.isolated_pair()],
    "two of nothing": [named.zero_atoms(), named.zero_atoms()],
    "one of all": named.batch_of_everything(),
}
