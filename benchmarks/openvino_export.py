"""A Hugging Face folder for OpenVINO, its weights compressed by NNCF; run by an interpreter that has optimum-intel.

Usage: openvino_export.py FOLDER INTO q4_1|q4_0|q8_0, the encoding whose bytes are to be met: 4 bits in groups of 32,
asymmetric with the head in 8 bits, or symmetric with the head in 4; or 8 bits.
"""

from __future__ import annotations

import sys

from optimum.intel import OVModelForCausalLM, OVWeightQuantizationConfig

COMPRESSIONS = {
    "q4_1": {"bits": 4, "sym": False, "group_size": 32, "ratio": 1.0},
    "q4_0": {"bits": 4, "sym": True, "group_size": 32, "ratio": 1.0, "all_layers": True},
    "q8_0": {"bits": 8},
}

if __name__ == "__main__":
    source, into, encoding = sys.argv[1:]
    compression = OVWeightQuantizationConfig(**COMPRESSIONS[encoding])
    model = OVModelForCausalLM.from_pretrained(source, export=True, compile=False, quantization_config=compression)
    model.save_pretrained(into)
