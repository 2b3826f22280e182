"""Where a pixel looks: reach, influence, exact blocks and gradients, without an N×N matrix.

For one pixel u of an image, R passes with attention matrices A_1 … A_R, value matrices W_r and
factors γ_r:

- `reach`: u's row of A_R…A_1, which sums to 1;
- `influence`: u's row of (I + γA_R)…(I + γA_1), which sums to (1 + γ)^R;
- `exact`: the norm of each C×C block of Π(I + γA_r ⊗ W_r), with the attention held fixed;
- `gradient`: that of the class's score through the whole rest of the network.
"""

from ccnet.explanation.explaining import Explanation, Route, explain
from ccnet.explanation.grid import Grid
from ccnet.explanation.overlay import Scale, overlay, scale_of

__all__ = ["Explanation", "Grid", "Route", "Scale", "explain", "overlay", "scale_of"]
