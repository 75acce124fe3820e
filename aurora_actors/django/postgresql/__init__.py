"""The backend ``aurora_actors.django.postgresql``; see ``base``."""
