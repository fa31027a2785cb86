"""The patch that adapts a frozen video LLM to side channels (audio, depth, ...), and the patched model.

Modules, each usable alone:

- `fusion`: the fusion module of one channel (section 3 of the PAVE paper).
- `side_batch`, `alignment`, `rotary_positions`, `attention`: its parts: checks and packing, which side-channel steps
  each key frame sees, positions in time and space, and the kernels.
- `video_tokens`: where newline tokens go between the visual tokens.
- `chat_text`: prompts, token ids and labels.
- `sequence_assembly`: the video's run of ids in a sample's text, and padding samples to a batch.
- `config`, `lora`: settings, and LoRA on the LLM's linear layers.
- `patched_model`: base + LoRA + one fusion module per channel (`video_inputs`: what it is given; `patch_update`: the
  sum over channels).
- `base_family`, `llava_onevision_base`, `qwen2_5_vl_base`: what differs between families of bases.
- `checkpoint`, `model_card`, `base_fingerprint`: saving, loading, and recognising the base a patch belongs to.
- `patch_attention`: where in time a patch looks.
- `cost`, `published_sizes`: what a patch costs beside its base, counted without weights.
- `release_checkpoint`, `release_import`: checkpoints of the original release (`release_files`, `release_settings`
  and `release_tensors` read their parts).
- `small_base`: a small random base of the real class, for demos and tests.

This file imports none of them, so that `import pave_model` stays cheap.
"""
