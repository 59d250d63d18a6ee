//! One table of tensor names, read both ways.

/// HF's name and GGUF's, of tensors outside the blocks (`.weight` left out).
const OUTSIDE: &[(&str, &str)] =
    &[("model.embed_tokens", "token_embd"), ("model.norm", "output_norm"), ("lm_head", "output")];

/// HF's name and GGUF's, inside a block. Where a family's norms have other places in GGUF, see
/// [`gguf_name`].
const INSIDE: &[(&str, &str)] = &[
    ("input_layernorm", "attn_norm"),
    ("self_attn.q_proj", "attn_q"),
    ("self_attn.k_proj", "attn_k"),
    ("self_attn.v_proj", "attn_v"),
    ("self_attn.qkv_proj", "attn_qkv"),
    ("self_attn.o_proj", "attn_output"),
    ("self_attn.q_norm", "attn_q_norm"),
    ("self_attn.k_norm", "attn_k_norm"),
    ("mlp.gate_proj", "ffn_gate"),
    ("mlp.up_proj", "ffn_up"),
    ("mlp.gate_up_proj", "ffn_up"),
    ("mlp.down_proj", "ffn_down"),
    ("pre_feedforward_layernorm", "ffn_norm"),
    ("post_feedforward_layernorm", "post_ffw_norm"),
];

/// GGUF's name of a tensor with its ending (`.weight`, `.bias`). `post_norms`: the family has norms
/// after attention and MLP, so HF's `post_attention_layernorm` is really one; elsewhere that name
/// is the norm before the MLP.
pub(crate) fn gguf_name(hf: &str, post_norms: bool) -> Option<String> {
    let (stem, ending) = hf.rsplit_once('.')?;
    if let Some((_, gguf)) = OUTSIDE.iter().find(|(name, _)| *name == stem) {
        return Some(format!("{gguf}.{ending}"));
    }
    let (layer, inside) = stem.strip_prefix("model.layers.")?.split_once('.')?;
    let gguf = match inside {
        "post_attention_layernorm" if post_norms => "post_attention_norm",
        "post_attention_layernorm" => "ffn_norm",
        _ => INSIDE.iter().find(|(name, _)| *name == inside)?.1,
    };
    Some(format!("blk.{layer}.{gguf}.{ending}"))
}

#[cfg(test)]
mod tests {
    use super::gguf_name;

    #[test]
    fn the_norm_after_attention_is_where_its_family_has_it() {
        let name = "model.layers.3.post_attention_layernorm.weight";
        assert_eq!(gguf_name(name, false).unwrap(), "blk.3.ffn_norm.weight");
        assert_eq!(gguf_name(name, true).unwrap(), "blk.3.post_attention_norm.weight");
        assert_eq!(gguf_name("lm_head.weight", true).unwrap(), "output.weight");
        let bias = "model.layers.11.self_attn.q_proj.bias";
        assert_eq!(gguf_name(bias, false).unwrap(), "blk.11.attn_q.bias");
        assert_eq!(gguf_name("model.layers.0.mlp.router.weight", false), None);
    }
}
