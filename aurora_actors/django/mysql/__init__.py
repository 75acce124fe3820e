"""The backend ``aurora_actors.django.mysql``; see ``base``."""
