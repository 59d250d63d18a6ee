//! Prints what a GGUF file says about itself: keys, tensors and where their bytes are.
//!
//! `cargo run -p ft-gguf --example dump -- FILE`

use std::io::{self, Write};
use std::path::Path;

use ft_gguf::{Array, File, Value};

/// Elements shown of an array, characters of a string.
const ELEMENTS: usize = 6;
const CHARACTERS: usize = 60;

fn main() -> Result<(), String> {
    let path = std::env::args_os().nth(1).ok_or("usage: dump FILE")?;
    let file = File::open(Path::new(&path)).map_err(|error| error.to_string())?;
    match dump(&file, &mut io::stdout().lock()) {
        // Whoever was reading has seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result.map_err(|error| error.to_string()),
    }
}

fn dump(file: &File, out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "version {}, alignment {}", file.version(), file.alignment())?;
    writeln!(out, "\n{} keys", file.metadata().len())?;
    for (key, value) in file.metadata().iter() {
        writeln!(out, "{key}: {} = {}", value.type_name(), shown(value))?;
    }
    writeln!(out, "\n{} tensors: name, kind, dimensions, offset, bytes", file.tensors().len())?;
    for tensor in file.tensors() {
        let dims: Vec<String> = tensor.dims.iter().map(u64::to_string).collect();
        let (name, kind, dims) = (&tensor.name, tensor.kind, dims.join("x"));
        writeln!(out, "{name} {kind} {dims} {} {}", tensor.offset, tensor.bytes)?;
    }
    Ok(())
}

fn shown(value: &Value) -> String {
    match value {
        Value::U8(v) => v.to_string(),
        Value::I8(v) => v.to_string(),
        Value::U16(v) => v.to_string(),
        Value::I16(v) => v.to_string(),
        Value::U32(v) => v.to_string(),
        Value::I32(v) => v.to_string(),
        Value::F32(v) => v.to_string(),
        Value::Bool(v) => v.to_string(),
        Value::String(v) => cut(v),
        Value::Array(v) => elements(v),
        Value::U64(v) => v.to_string(),
        Value::I64(v) => v.to_string(),
        Value::F64(v) => v.to_string(),
    }
}

fn elements(array: &Array) -> String {
    match array {
        Array::U8(v) => first(v.iter().map(u8::to_string)),
        Array::I8(v) => first(v.iter().map(i8::to_string)),
        Array::U16(v) => first(v.iter().map(u16::to_string)),
        Array::I16(v) => first(v.iter().map(i16::to_string)),
        Array::U32(v) => first(v.iter().map(u32::to_string)),
        Array::I32(v) => first(v.iter().map(i32::to_string)),
        Array::F32(v) => first(v.iter().map(f32::to_string)),
        Array::Bool(v) => first(v.iter().map(bool::to_string)),
        Array::String(v) => first(v.iter().map(cut)),
        Array::Array(v) => first(v.iter().map(elements)),
        Array::U64(v) => first(v.iter().map(u64::to_string)),
        Array::I64(v) => first(v.iter().map(i64::to_string)),
        Array::F64(v) => first(v.iter().map(f64::to_string)),
    }
}

fn first(elements: impl ExactSizeIterator<Item = String>) -> String {
    let more = if elements.len() > ELEMENTS { ", …" } else { "" };
    let shown: Vec<String> = elements.take(ELEMENTS).collect();
    format!("[{}{more}]", shown.join(", "))
}

fn cut(text: &str) -> String {
    let more = if text.chars().nth(CHARACTERS).is_some() { "…" } else { "" };
    format!("{:?}{more}", text.chars().take(CHARACTERS).collect::<String>())
}
