//! Templates come with models, and models come from anywhere.

mod common;

use std::time::{Duration, Instant};

use common::tokenizer;
use ft_datasets::chat::{Conversation, Message};
use ft_datasets::template::{RenderOptions, Template, TemplateError, builtin_names};

/// Far above what any of these takes, far below what they ask for.
const SOON: Duration = Duration::from_mins(1);

fn outcome(source: &str) -> Result<String, TemplateError> {
    let begun = Instant::now();
    let row = Conversation::new(vec![Message::new("user", "hi")]);
    let outcome = Template::new(source, "<s>", "</s>")
        .and_then(|template| template.render_text(&row, &RenderOptions::default()));
    assert!(begun.elapsed() < SOON, "{source}");
    outcome
}

#[test]
fn endless_work_ends_in_an_exceeded_budget() {
    for source in [
        "{% for a in range(100000) %}{% for b in range(10000) %}{% endfor %}{% endfor %}",
        "{% for a in range(1000) %}{% for b in range(1000) %}{% for c in range(1000) %}x{% endfor %}{% endfor %}{% endfor %}",
        "{% macro f(n) %}{{ f(n + 1) }}{% endmacro %}{{ f(0) }}",
        "{{ 'a' * 100000000 }}",
        "{% for a in range(1000) %}{{ 'a' * 1000000 }}{% endfor %}",
    ] {
        let error = outcome(source).unwrap_err();
        let TemplateError::Budget { .. } = error else { panic!("{source}: {error}") };
        assert!(
            error.to_string().starts_with("the chat template exceeded its budget of"),
            "{error}"
        );
    }
    for source in ["{% for a in range(1000000000) %}x{% endfor %}", "{{ 'a' * 1000000000000 }}"] {
        assert!(outcome(source).is_err(), "{source}");
    }
}

#[test]
fn there_is_nothing_of_the_host_to_reach() {
    for source in [
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ self.__init__.__globals__ }}",
        "{{ cycler.__init__.__globals__.os.popen('id').read() }}",
        "{% include '/etc/passwd' %}",
        "{% import 'os' as os %}{{ os.system('id') }}",
        "{{ messages | unheard_of }}",
        "{{ open('/etc/passwd') }}",
    ] {
        let error = outcome(source).unwrap_err();
        assert!(
            matches!(error, TemplateError::Render { .. } | TemplateError::Syntax { .. }),
            "{error}"
        );
    }
}

#[test]
fn a_refusal_of_the_template_is_told_in_its_own_words() {
    let error = outcome("{{ raise_exception('roles must alternate') }}").unwrap_err();
    assert_eq!(error, TemplateError::Refused { message: "roles must alternate".to_owned() });
    let error = outcome("{% macro f() %}{{ raise_exception('deep') }}{% endmacro %}{{ f() }}");
    assert_eq!(error.unwrap_err(), TemplateError::Refused { message: "deep".to_owned() });
}

#[test]
fn an_unknown_name_is_answered_with_the_nearest() {
    let tokenizer = tokenizer("<s>", "</s>", false);
    let error = Template::named(Some("lama3"), &tokenizer).unwrap_err().to_string();
    assert!(error.ends_with("did you mean `llama3`?"), "{error}");
    let error = Template::named(None, &tokenizer).unwrap_err();
    assert_eq!(error, TemplateError::NoTemplate);
    assert!(Template::named(Some("tokenizer_default_fallback_chatml"), &tokenizer).is_ok());
    for name in builtin_names() {
        assert!(Template::named(Some(name), &tokenizer).is_ok(), "{name}");
    }
}

#[test]
fn python_habits_of_templates_are_understood() {
    let tools = serde_json::json!([{"b": 1, "a": [true, null, 1e-7, 1e16, 0.1, "é\u{1}<&>"]}]);
    let row = Conversation { messages: vec![Message::new("user", " Hi ")], tools: Some(tools) };
    let text = |source: &str| {
        let options = RenderOptions {
            variables: serde_json::json!({"enable_thinking": false}).as_object().unwrap().clone(),
            ..RenderOptions::default()
        };
        Template::new(source, "<s>", "</s>").unwrap().render_text(&row, &options).unwrap()
    };
    for (source, expected) in [
        (
            "{{ tools[0] | tojson }}",
            "{\"b\": 1, \"a\": [true, null, 1e-07, 1e+16, 0.1, \"é\\u0001<&>\"]}",
        ),
        ("{{ {'a': 1} | tojson(indent=2) }}", "{\n  \"a\": 1\n}"),
        (
            "{{ {'b': [], 'a': 'é'} | tojson(separators=(',', ':'), sort_keys=True, ensure_ascii=True) }}",
            "{\"a\":\"\\u00e9\",\"b\":[]}",
        ),
        ("{{ none }} {{ true }} {{ 1.0 }}", "None True 1.0"),
        ("{{ messages[0]['content'].strip().split('H')[-1] }}", "i"),
        ("{{ messages[0].content | trim }}{% if not enable_thinking %}!{% endif %}", "Hi!"),
        (
            "{% set ns = namespace(n=0) %}{% for x in [1, 2, 3] %}{% if x == 2 %}{% continue %}{% endif %}{% set ns.n = ns.n + x %}{% endfor %}{{ ns.n }}",
            "4",
        ),
        ("a\n    {% if true %}\nb\n    {% endif %}\nc\n", "a\nb\nc"),
        ("{{ strftime_now('%d %b %Y') }}{{ bos_token }}", "26 Jul 2024<s>"),
        ("{% if documents is none %}none{% endif %}{{ messages[1:] | length }}", "none0"),
    ] {
        assert_eq!(text(source), expected, "{source}");
    }
}
