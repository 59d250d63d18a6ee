//! `ft check RECIPE`

use std::fmt::Write as _;

use anyhow::Result;
use ft_kernels::device::device;
use ft_recipes::{Loaded, Standing};
use ft_trainer::{Plan, Session};

use crate::{evaluate, recipe, report};

/// Reads the rows and the base, takes no step and writes nothing.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    recipe: recipe::RecipeArgs,
    /// As JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let loaded = recipe::load(&args.recipe, &[])?;
    // Said before the base is looked for: a recipe can be judged where its base is not.
    if !args.json {
        report::out(accepted(&loaded))?;
    }
    let base = recipe::base(&loaded)?;
    evaluate::questions(&loaded.recipe, &base.tokenizer)?;
    let plan = ft_trainer::plan(&Session {
        loaded: &loaded,
        model_path: &base.path,
        tokenizer: &base.tokenizer,
        device: device(base.device_name)?,
        device_name: base.device_name,
        force: false,
    })?;
    if args.json {
        return report::out(serde_json::to_string_pretty(&plan)?);
    }
    let mut command = format!("ft train {}", args.recipe.recipe.display());
    for (key, value) in &args.recipe.set {
        let _ = write!(command, " --set {key}={value}");
    }
    report::out(format_args!("{}\nstart it   {command}", text(&plan)))
}

/// That the recipe is in order, and what became of its keys.
fn accepted(loaded: &Loaded) -> String {
    let mut text = format!("recipe     accepted, {} keys", loaded.keys.len());
    for (standing, words) in [
        (Standing::Read, "read"),
        (Standing::Renamed, "read under another name"),
        (Standing::NoEffect, "without effect here"),
        (Standing::OneDevice, "for several devices"),
        (Standing::Empty, "empty"),
        (Standing::Dead, "that nobody reads"),
    ] {
        let count = loaded.keys.iter().filter(|(_, found)| *found == standing).count();
        if count > 0 {
            let _ = write!(text, ", {count} {words}");
        }
    }
    text
}

/// What would be spent, for people.
pub(crate) fn text(plan: &Plan) -> String {
    let mut text = format!("rows{}", plan.data);
    let mut add = |line: String| {
        text.push('\n');
        text.push_str(&line);
    };
    for (name, part) in [("train", &plan.data.train), ("held out", &plan.data.held_out)] {
        if part.rows > 0 {
            add(format!(
                "{name:<10} {} rows, {} tokens, {} of them trained, longest row {}",
                grouped(part.rows),
                grouped(part.tokens),
                grouped(part.label_tokens),
                grouped(part.longest)
            ));
        }
    }
    add(format!(
        "steps      {} ({} to warm up), {:.2} epochs, {:.0} tokens a step ({:.0} computed), at most {} in a micro-batch",
        plan.steps,
        plan.warmup_steps,
        plan.epochs,
        plan.tokens_per_step,
        plan.computed_tokens_per_step,
        grouped(plan.largest_micro_batch)
    ));
    add(format!(
        "adapters   {} projections, {} trained numbers",
        plan.adapters,
        grouped(plan.trained_parameters)
    ));
    let total: u64 = plan.memory.iter().map(|part| part.bytes).sum();
    add(format!("memory     {} of {} free", bytes(total), bytes(plan.available_memory_bytes)));
    for part in &plan.memory {
        add(format!("             {:>10}  {}", bytes(part.bytes), part.name));
    }
    let free = plan.free_disk_bytes.map(|free| format!(" of {} free", bytes(free)));
    add(format!("disk       {}{}", bytes(plan.disk_bytes), free.unwrap_or_default()));
    add(format!("time       about {}", duration(plan.seconds_estimate)));
    text
}

/// `1234567` to `1,234,567`.
fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn bytes(bytes: u64) -> String {
    let mut size = bytes as f64;
    let mut units = ["B", "KiB", "MiB", "GiB"].into_iter();
    let mut unit = units.next().unwrap_or("B");
    while size >= 1024.0
        && let Some(next) = units.next()
    {
        size /= 1024.0;
        unit = next;
    }
    if unit == "B" { format!("{bytes} B") } else { format!("{size:.1} {unit}") }
}

fn duration(seconds: f64) -> String {
    match seconds {
        s if s < 1.0 => "a second".to_owned(),
        s if s < 100.0 => format!("{s:.0} s"),
        s if s < 100.0 * 60.0 => format!("{:.0} min", s / 60.0),
        s => format!("{:.1} h", s / 3600.0),
    }
}

#[cfg(test)]
mod tests {
    use super::{bytes, duration, grouped};

    #[test]
    fn numbers_are_written_for_people() {
        assert_eq!(
            [0, 12, 999, 1000, 1_234_567].map(grouped),
            ["0", "12", "999", "1,000", "1,234,567"]
        );
        assert_eq!([0, 1023, 1536, 5 << 30].map(bytes), ["0 B", "1023 B", "1.5 KiB", "5.0 GiB"]);
        assert_eq!(
            [0.2, 12.4, 240.0, 36_000.0].map(duration),
            ["a second", "12 s", "4 min", "10.0 h"]
        );
    }
}
