"""Extensions of aurora-actors: ``audit``, ``http_health`` and ``same_zone``, each a module of its own."""
