import math

import mpmath
import numpy as np
import pytest
import torch
from scipy.integrate import quad

from repro.measure import moments as mo


def by_quadrature(m: float, v: float) -> tuple[float, float]:
    """Moments of SELU(x), x ~ N(m, v), by adaptive integration on either side of the kink."""
    s = math.sqrt(v)

    def expect(f):
        def density(x):
            return f(x) * math.exp(-((x - m) ** 2) / (2 * v)) / (s * math.sqrt(2 * math.pi))

        lo, hi = m - 12 * s, m + 12 * s
        cuts = [lo, *[c for c in (0.0, m) if lo < c < hi], hi]
        return sum(
            quad(density, a, b, epsabs=1e-13, epsrel=1e-12)[0]
            for a, b in zip(sorted(cuts), sorted(cuts)[1:], strict=False)
        )

    def selu(x):
        return mo.LAMBDA * (x if x > 0 else mo.ALPHA * math.expm1(x))

    mean = expect(selu)
    return mean, expect(lambda x: (selu(x) - mean) ** 2)


def g(mu, nu, omega=0.0, tau=1.0) -> tuple[float, float]:
    mean, variance = mo.selu_map(*(torch.tensor(t, dtype=torch.float64) for t in (mu, nu, omega, tau)))
    return float(mean), float(variance)


@pytest.mark.parametrize(
    ("mu", "nu", "omega", "tau"),
    [
        (0, 1, 0, 1),
        (0.5, 2, 0.7, 1.1),
        (-3, 0.5, 1, 1),
        (5, 0.3, 1, 1),
        (-0.1, 10, 0.1, 0.9),
        (2, 0.02, -1, 1),
        (-40, 1, 1, 1),
    ],
)
def test_the_closed_form_is_the_integral(mu, nu, omega, tau):
    assert g(mu, nu, omega, tau) == pytest.approx(by_quadrature(mu * omega, nu * tau), abs=1e-9)


@pytest.mark.parametrize(("m", "v"), [(0.0, 1e4), (30.0, 2e3), (-30.0, 2e3), (0.1, 1e-6), (-2.0, 1e-4)])
def test_extreme_variances_agree_with_fifty_digit_arithmetic(m, v):
    with mpmath.workdps(50):
        s = mpmath.sqrt(v)
        once, twice = (mpmath.exp(k * m + k * k * mpmath.mpf(v) / 2) * mpmath.ncdf(-(m + k * v) / s) for k in (1, 2))
        up, below, phi = mpmath.ncdf(m / s), mpmath.ncdf(-m / s), mpmath.npdf(m / s)
        mean = mo.LAMBDA * (m * up + s * phi + mo.ALPHA * (once - below))
        second = mo.LAMBDA**2 * ((m * m + v) * up + m * s * phi + mo.ALPHA**2 * (twice - 2 * once + below))
        expected = float(mean), float(second - mean**2)
    assert g(m, v, 1.0, 1.0) == pytest.approx(expected, rel=1e-8, abs=1e-12)


def test_zero_mean_unit_variance_is_a_fixed_point():
    assert g(0, 1) == pytest.approx((0, 1), abs=1e-12)


def test_the_constants_are_torchs():
    x = torch.tensor([-1e9, 1.0], dtype=torch.float64)
    torch.testing.assert_close(torch.selu(x), torch.tensor([-mo.LAMBDA * mo.ALPHA, mo.LAMBDA]).double())


def test_the_jacobian_at_the_fixed_point_contracts():
    jacobian = mo.selu_jacobian()
    expected = torch.tensor([[0, 0.088835], [0, 0.782648]]).double()
    torch.testing.assert_close(jacobian, expected, atol=1e-6, rtol=0)
    assert float(torch.linalg.matrix_norm(jacobian, 2)) == pytest.approx(0.787673, abs=1e-6)


@pytest.mark.parametrize(
    "point", [(0.0, 1.0, 0.0, 1.0), (0.3, 2.0, 0.5, 1.0), (-4.0, 0.5, 1.0, 1.0), (-40.0, 1.0, 1.0, 1.0)]
)
def test_the_jacobian_is_the_difference_quotient(point):
    mu, nu, omega, tau = point
    h = 1e-5
    by_mu = (np.array(g(mu + h, nu, omega, tau)) - g(mu - h, nu, omega, tau)) / (2 * h)
    by_nu = (np.array(g(mu, nu + h, omega, tau)) - g(mu, nu - h, omega, tau)) / (2 * h)
    np.testing.assert_allclose(mo.selu_jacobian(*point).numpy(), np.stack([by_mu, by_nu], 1), atol=1e-7)


def test_the_domain_of_the_stability_theorem_maps_into_the_published_box():
    grid = torch.meshgrid(
        *(
            torch.linspace(*ends, 25, dtype=torch.float64)
            for ends in ((-0.1, 0.1), (0.8, 1.5), (-0.1, 0.1), (0.95, 1.1))
        ),
        indexing="ij",
    )
    mu, nu, omega, tau = (t.flatten() for t in grid)
    mean, variance = mo.selu_map(mu, nu, omega, tau)
    ends = [float(t) for t in (mean.min(), mean.max(), variance.min(), variance.max())]
    assert ends == pytest.approx([-0.0311, 0.0677, 0.8037, 1.4816], abs=1e-3)
    for corner in {int(t) for t in (mean.argmin(), mean.argmax(), variance.argmin(), variance.argmax())}:
        m, v = float(mu[corner] * omega[corner]), float(nu[corner] * tau[corner])
        assert (float(mean[corner]), float(variance[corner])) == pytest.approx(by_quadrature(m, v), abs=1e-9)


def test_measured_moments_are_pooled_over_inputs_and_units_for_each_member():
    activations = torch.arange(12.0).view(1, 3, 4).repeat(2, 1, 1)
    activations[1] += 1
    torch.testing.assert_close(mo.moments(activations), torch.tensor([[5.5, 143 / 12], [6.5, 143 / 12]]).double())


def test_a_wide_random_layer_has_the_moments_that_the_map_predicts():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(512, 2048, generator=generator).double() * 1.3
    w = torch.randn(2048, 2048, generator=generator).double() / math.sqrt(2048)
    measured = mo.moments(torch.selu(x @ w.T))
    assert measured.tolist() == pytest.approx(g(0, 1.69), abs=0.01)
