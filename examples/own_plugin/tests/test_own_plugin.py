from diffkit.testing import parametrize_with_laws


@parametrize_with_laws("schedule", ["laplace"])
def test_schedule(law, component):
    law(component)


@parametrize_with_laws("sampler", ["er-sde"])
def test_sampler(law, component):
    law(component)


@parametrize_with_laws("conditioner", ["restart"])
def test_conditioner(law, component):
    law(component)
