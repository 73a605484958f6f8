"""Several levels of theory in one model: every structure is given its own, and no other takes part."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import structures as named
from macekit.config import DatasetFacts
from macekit.data import Structure
from macekit.errors import ConfigError, DataError
from macekit.geometry.graph import collate
from macekit.geometry.neighbours import graph_for
from macekit.interop.native import load_native, read_config, save_native
from macekit.model.build import build_model
from macekit.model.mace import Mace
from macekit.model.selection import at_head
from macekit.outputs.derivatives import evaluate
from small_facts import facts as small_facts

SMALL: dict[str, Any] = {
    "hidden_irreps": "4x0e + 4x1o",
    "mlp_irreps": "3x0e",
    "max_ell": 2,
    "correlation": 2,
    "radial_mlp": [6],
    "compute_forces": True,
    "uncertainty": "gaussian",
    "name": "mean_var_mace_model",
}
HEADS = {
    "pbe": {"scale": {"energy": 2.0}, "shift": {"energy": 0.3}},
    "ccsd": {"reference_energies": {"energy": [-1.0, -2.0, -3.0, -4.0, -5.0]}, "shift": {"charges": 0.5}},
}


def facts(**changes: Any) -> DatasetFacts:
    return small_facts(**({"heads": HEADS} | changes))


def model(**changes: Any) -> Mace:
    return build_model(SMALL["name"], SMALL, facts(**changes), seed=3, dtype=torch.float64)


def structures() -> list[Structure]:
    return [named.water(), named.cubic_copper(), named.water()]


def test_every_structure_has_the_outputs_of_its_level() -> None:
    whole = model()
    heads = ["ccsd", "pbe", "pbe"]
    batch = collate([graph_for(s.with_head(h), whole.facts) for s, h in zip(structures(), heads, strict=True)])
    assert batch.head.tolist() == [1, 0, 0]
    found = evaluate(whole, batch)
    sizes = batch.nodes_per_graph().tolist()
    for row, (structure, head) in enumerate(zip(structures(), heads, strict=True)):
        alone = at_head(whole, head)
        assert list(alone.facts.heads) == [head]
        expected = evaluate(alone, graph_for(structure, alone.facts))
        for key, value in expected.items():
            mine = found[key].split(sizes)[row] if len(found[key]) == sum(sizes) else found[key][[row]]
            torch.testing.assert_close(mine, value, rtol=1e-12, atol=1e-12, equal_nan=True)
    assert found["y_graph_scalars"][0, 0] != found["y_graph_scalars"][2, 0]


def test_constants_of_a_level_override_those_of_all() -> None:
    chosen = facts().at_head("ccsd")
    assert chosen.reference_energies["energy"] == [-1.0, -2.0, -3.0, -4.0, -5.0]
    assert chosen.scale == {"energy": 10.0, "charges": 0.3, "dipole": 0.5}
    assert chosen.shift == {"energy": -0.2, "charges": 0.5}
    assert facts().at_head("pbe").shift == {"energy": 0.3, "charges": 0.05}
    assert facts().shifted("charges", [1.0, 2.0]).heads["ccsd"].shift == {"charges": 2.5}
    assert small_facts().shifted("energy", [0.5]).shift["energy"] == 0.3


def test_only_the_read_outs_of_the_level_learn() -> None:
    whole = model()
    graph = graph_for(named.water().with_head("ccsd"), whole.facts)
    evaluate(whole, graph, training=True)["y_graph_scalars"].sum().backward()  # type: ignore[no-untyped-call]
    for name, parameter in whole.named_parameters():
        if ".graph_scalars.levels." in name:
            learns = bool(parameter.grad is not None and parameter.grad.abs().sum() > 0)
            assert learns == (".levels.1." in name), name


def test_a_single_named_level_is_an_ordinary_model() -> None:
    named_level, unnamed = model(heads={"pbe": {}}), model(heads={})
    assert named_level.state_dict().keys() == unnamed.state_dict().keys()
    graph = graph_for(named.water(), named_level.facts)
    assert torch.equal(named_level(graph)["y_graph_scalars"], unnamed(graph)["y_graph_scalars"])
    assert at_head(named_level, "pbe") is named_level
    assert graph_for(named.water().with_head("anything"), unnamed.facts).head.tolist() == [0]


def test_the_file_keeps_all_levels(tmp_path: Any) -> None:
    whole = model(default_head="ccsd")
    again = load_native(save_native(whole, tmp_path / "model"))
    assert list(read_config(tmp_path / "model")["facts"]["heads"]) == ["pbe", "ccsd"]
    assert again.facts == whole.facts
    graph = graph_for(named.water(), whole.facts)
    assert graph.head.tolist() == [1]
    assert torch.equal(again(graph)["y_graph_scalars"], whole.eval()(graph)["y_graph_scalars"])


def test_which_level_must_be_said() -> None:
    with pytest.raises(DataError, match=r"w\.xyz frame 0: the model has 2 heads and no default: pbe, ccsd"):
        graph_for(Structure(np.array([8]), np.zeros((1, 3)), source="w.xyz frame 0"), facts())
    with pytest.raises(DataError, match=r"no head 'pb': the model has pbe, ccsd\nhint: did you mean 'pbe'\?"):
        at_head(model(), "pb")
    with pytest.raises(DataError, match="no head 'pbe': the model has a single level of theory without a name"):
        at_head(model(heads={}), "pbe")
    with pytest.raises(ConfigError, match="default_head: 'scan' is none of pbe, ccsd"):
        facts(default_head="scan")
    with pytest.raises(ConfigError, match=r"heads\.pbe\.reference_energies: energy has 1 values for 5 elements"):
        facts(heads={"pbe": {"reference_energies": {"energy": [1.0]}}})
