"""What bioimageio.core itself answers for an image and a package.

python oracle_bioimageio.py PACKAGE.zip IMAGE.npy ANSWER.npy      in the runner's environment

The image has the axes of the network's input; its answer is written as it is.
"""

from __future__ import annotations

import sys

import numpy as np
from bioimageio.core import Sample, Tensor, create_prediction_pipeline, load_model_description
from bioimageio.core.digest_spec import get_axes_infos, get_member_ids
from bioimageio.spec.model import v0_4


def main(package: str, image: str, answer: str) -> None:
    model = load_model_description(package)
    (taken,), (given,) = get_member_ids(model.inputs), get_member_ids(model.outputs)
    tensor = Tensor(np.load(image), dims=[axis.id for axis in get_axes_infos(model.inputs[0])])
    sample = Sample(members={taken: tensor}, stat={}, id="whole")
    pipeline = create_prediction_pipeline(model)
    # In blocks it takes statistics before it adds halos, as they should be; of format 0.4 it does
    # the whole at once, without any halo.
    old = isinstance(model, v0_4.ModelDescr)
    how = pipeline.predict_sample_without_blocking if old else pipeline.predict_sample_with_blocking
    made = how(sample)
    np.save(answer, made.members[given].to_numpy())


if __name__ == "__main__":
    main(*sys.argv[1:])
