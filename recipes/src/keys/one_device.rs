//! Keys about several devices or machines: ft runs on one.

use super::{Key, one_device};

const ONE: &str = "runs on 1 device; global batch = micro_batch_size × gradient_accumulation_steps";

#[rustfmt::skip] // one key a line, whatever its length
pub(super) const KEYS: &[Key] = &[
    one_device("deepspeed", ONE),
    one_device("fsdp", ONE),
    one_device("fsdp_config", ONE),
    one_device("fsdp_version", ONE),
    one_device("fsdp_final_state_dict_type", ONE),
    one_device("fp8_enable_fsdp_float8_all_gather", ONE),
    one_device("qlora_sharded_model_loading", ONE),
    one_device("accelerator_config", ONE),
    one_device("world_size", ONE),
    one_device("local_rank", ONE),
    one_device("ddp", ONE),
    one_device("ddp_timeout", ONE),
    one_device("ddp_bucket_cap_mb", ONE),
    one_device("ddp_broadcast_buffers", ONE),
    one_device("ddp_find_unused_parameters", ONE),
    one_device("dp_shard_size", ONE),
    one_device("dp_replicate_size", ONE),
    one_device("sequence_parallel_degree", ONE),
    one_device("context_parallel_size", ONE),
    one_device("heads_k_stride", ONE),
    one_device("ring_attn_func", ONE),
    one_device("tensor_parallel_size", ONE),
    one_device("expert_parallel_size", ONE),
    one_device("expert_parallel_backend", ONE),
    one_device("expert_parallel_num_nvl_bytes", ONE),
    one_device("expert_parallel_num_rdma_bytes", ONE),
    one_device("expert_parallel_token_capacity", ONE),
    one_device("expert_parallel_fallback_on_unsupported", ONE),
    one_device("use_ray", ONE),
    one_device("ray_run_name", ONE),
    one_device("ray_num_workers", ONE),
    one_device("resources_per_worker", ONE),
];
