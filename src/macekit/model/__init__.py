"""The model: basis, interaction, product, layer, tuners, backbone, read-outs, and how they are put together."""
