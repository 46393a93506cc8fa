"""Changes of the decoder's attention at inference (METHODS 1). An intervention knows nothing of families.

Each is a folder: its options (read without torch), its kernel, and its readable definition, `reference.py`,
which is the oracle of the kernel. Installed packages add theirs by the entry-point
group `mimic_eval.interventions`.
"""

from mimic_eval.records.registry import Registry

INTERVENTIONS = Registry(
    "mask",
    {
        "none": "model_adapters.interventions.none:NoneOptions",
        "block": "model_adapters.interventions.block:BlockOptions",
        "sofa": "model_adapters.interventions.sofa:SofaOptions",
        "knockout": "model_adapters.interventions.knockout:KnockoutOptions",
        "ar": "model_adapters.interventions.remasking:RemaskingOptions",
        "mask_only": "model_adapters.interventions.remasking:MaskOnlyOptions",
        "unmask_only": "model_adapters.interventions.remasking:UnmaskOnlyOptions",
        "focus": "model_adapters.interventions.focus:FocusOptions",
        "orders": "model_adapters.interventions.orders:OrdersOptions",
        "var": "model_adapters.interventions.var:VarOptions",
        "dab": "model_adapters.interventions.dab:DabOptions",
        "delimiters": "model_adapters.interventions.delimiters:DelimiterOptions",
    },
    group="mimic_eval.interventions",
)
"""The values of ``mask=`` and the options of each."""
