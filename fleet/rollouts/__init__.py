"""Rollouts: who gets a release, wave by wave, and when it is taken back.

Pure: selectors, cohort, thresholds, views, traffic, progress, comparison, gates, planner, effects,
groups, words. Shell: loading, saving, starting, control, rollback, newcomers, engine.
"""
