from hypothesis import settings

settings.register_profile("sightline", deadline=None)  # a busy machine is no failure
settings.load_profile("sightline")
