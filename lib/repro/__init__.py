"""*Deep Learning, Reproduced*: the thin library under the notebooks.

Imports run one way: ``evidence``, ``data`` and ``models`` stand on the ground, ``train`` and ``measure`` on torch alone,
``figures`` draws what ``evidence`` and ``train`` return. Nothing here knows a paper's name.
"""

__version__ = "0.1.0"
