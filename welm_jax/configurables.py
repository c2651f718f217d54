"""Every class that gin may bind, and its module: the whole configurable surface on one page."""

# Bound by the corpus files; each class belongs to one command, which leaves the others alone.
CORPUS = {
    "CurationConfig": "beam_pipelines.curate",
    "FilterConfig": "beam_pipelines.filters",
    "TokenizerConfig": "welm_jax.text.tokenizer",
    "WriteTokensConfig": "beam_pipelines.write_tokens",
    "DataCardConfig": "beam_pipelines.data_card",
}

# Bound by a training configuration, and so by a run folder's config.gin.
TRAINING = {
    "ModelConfig": "welm_jax.model.config",
    "MixtureConfig": "welm_jax.text.sources",
    "MeshConfig": "welm_jax.train.mesh",
    "OptimizerConfig": "welm_jax.train.optimizer",
    "StepConfig": "welm_jax.train.step",
    "LossScaleConfig": "welm_jax.train.loss_scale",
    "SpikeConfig": "welm_jax.train.spikes",
    "CheckpointConfig": "welm_jax.train.checkpoints",
    "FaultConfig": "welm_jax.train.faults",
    "LoopConfig": "welm_jax.train.loop",
    "EvaluationConfig": "welm_jax.run_evaluation",
}
