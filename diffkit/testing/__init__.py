"""The conformance kit: exact problems, measured orders, and the laws every component is held against.

In a test file of a plugin:

    from diffkit.testing import parametrize_with_laws

    @parametrize_with_laws("sde", ["vp", {"name": "ve", "schedule": "linear"}])
    def test_sde_laws(law, component):
        law(component)
"""

from __future__ import annotations

from diffkit.testing.lawbook.base import Law, LawBroken, NotApplicable
from diffkit.testing.lawbook.book import check, laws
from diffkit.testing.parametrize import parametrize_with_laws

__all__ = ["Law", "LawBroken", "NotApplicable", "check", "laws", "parametrize_with_laws"]
