//! The manual pages of the program: one for each command, of what `--help` says, in the macros of man(7).
//!
//! A writer of its own, as it is a hundred lines and the program then carries no package for it. No page has a date: the same
//! program writes the same pages.

use clap::{Arg, Command};

/// The pages of `command` and of all below it, each with the name of its file.
pub fn pages(mut command: Command) -> Vec<(String, String)> {
    command.build();
    let mut pages = Vec::new();
    add(&command, None, &mut pages);
    pages
}

fn add(command: &Command, above: Option<&str>, pages: &mut Vec<(String, String)>) {
    let name = below(above, command);
    pages.push((format!("{name}.1"), page(command, &name, above)));
    for inner in shown(command) {
        add(inner, Some(&name), pages);
    }
}

/// What the page of a command is called: `ekiben-self-image`.
fn below(above: Option<&str>, command: &Command) -> String {
    above.map_or_else(|| command.get_name().to_owned(), |above| format!("{above}-{}", command.get_name()))
}

/// The commands below one that `--help` lists, but for `help`, which has no page.
fn shown(command: &Command) -> impl Iterator<Item = &Command> {
    command.get_subcommands().filter(|inner| !inner.is_hide_set() && inner.get_name() != "help")
}

fn page(command: &Command, name: &str, above: Option<&str>) -> String {
    let version = env!("CARGO_PKG_VERSION");
    let mut page = format!(".TH {} 1 \"\" \"ekiben {version}\" \"Ekiben\"\n", name.to_uppercase());
    // Without hyphens and with words as they are: commands are copied.
    page.push_str(".nh\n.ad l\n");
    let about = command.get_about().map(ToString::to_string).unwrap_or_default();
    section(&mut page, "Name");
    // What apropos(1) lists: one line, and nothing set in bold.
    page.push_str(&format!("{} \\- {}\n", plain(name), plain(&about.replace('`', ""))));
    section(&mut page, "Synopsis");
    let usage = command.clone().render_usage().to_string();
    page.push_str(&format!(".nf\n{}\n.fi\n", plain(usage.trim_start_matches("Usage:").trim())));
    if let Some(about) = command.get_long_about().or(command.get_about()) {
        section(&mut page, "Description");
        paragraphs(&mut page, &about.to_string());
    }
    let mut commands = shown(command).peekable();
    if commands.peek().is_some() {
        section(&mut page, "Commands");
        for inner in commands {
            let about = inner.get_about().map(ToString::to_string).unwrap_or_default();
            page.push_str(&format!(".TP\n\\fB{}\\fR(1)\n{}\n", plain(&below(Some(name), inner)), text(&about)));
        }
    }
    options(&mut page, command);
    if let Some(more) = command.get_after_long_help().or(command.get_after_help()) {
        after(&mut page, &more.to_string());
    }
    if let Some(above) = above {
        section(&mut page, "See also");
        page.push_str(&format!("\\fB{}\\fR(1)\n", plain(above)));
    }
    page
}

/// Arguments and options, under the headings that `--help` has.
fn options(page: &mut String, command: &Command) {
    let heading = |arg: &Arg| match arg.get_help_heading() {
        Some(heading) => heading.to_owned(),
        None if arg.is_positional() => "Arguments".to_owned(),
        None => "Options".to_owned(),
    };
    let args: Vec<_> = command.get_arguments().filter(|arg| !arg.is_hide_set()).collect();
    // Arguments come first, then options of this command, then those of all.
    let mut headings = vec!["Arguments".to_owned(), "Options".to_owned()];
    for arg in &args {
        let heading = heading(arg);
        if !headings.contains(&heading) {
            headings.push(heading);
        }
    }
    for wanted in headings {
        let mut args = args.iter().filter(|arg| heading(arg) == wanted).peekable();
        if args.peek().is_some() {
            section(page, &wanted);
        }
        args.for_each(|arg| option(page, arg));
    }
}

fn option(page: &mut String, arg: &Arg) {
    let short = arg.get_short().filter(|_| arg.get_long().is_some());
    let short = short.map(|short| format!("-{short}, ")).unwrap_or_default();
    page.push_str(&format!(".TP\n\\fB{}\\fR\n", plain(&format!("{short}{arg}"))));
    if let Some(help) = arg.get_long_help().or(arg.get_help()) {
        for (index, paragraph) in split(&help.to_string()).into_iter().enumerate() {
            let before = if index == 0 { "" } else { ".IP\n" };
            page.push_str(&format!("{before}{}\n", text(&paragraph)));
        }
    }
    let mut notes = Vec::new();
    if arg.get_action().takes_values() {
        let values = arg.get_possible_values().into_iter().filter(|value| !value.is_hide_set());
        let values: Vec<_> = values
            .map(|value| match value.get_help() {
                Some(help) => format!("`{}`: {help}", value.get_name()),
                None => format!("`{}`", value.get_name()),
            })
            .collect();
        if !values.is_empty() && !arg.is_hide_possible_values_set() {
            notes.push(format!("One of {}.", values.join("; ")));
        }
        let defaults: Vec<_> = arg.get_default_values().iter().map(|value| value.to_string_lossy()).collect();
        if !defaults.is_empty() && !arg.is_hide_default_value_set() {
            notes.push(format!("Without it: `{}`.", defaults.join(" ")));
        }
    }
    if let Some(variable) = arg.get_env() {
        notes.push(format!("The variable `{}` says the same.", variable.to_string_lossy()));
    }
    if !notes.is_empty() {
        page.push_str(&format!(".IP\n{}\n", text(&notes.join(" "))));
    }
}

/// What stands at the end of a help: lines as they are, under headings that end in a colon.
fn after(page: &mut String, help: &str) {
    for block in help.split("\n\n") {
        let (heading, lines) = match block.split_once(":\n") {
            Some((heading, lines)) if !heading.contains('\n') => (heading, lines),
            _ => ("Notes", block),
        };
        section(page, heading);
        page.push_str(&format!(".nf\n{}\n.fi\n", plain(lines)));
    }
}

fn section(page: &mut String, title: &str) {
    page.push_str(&format!(".SH {}\n", plain(&title.to_uppercase())));
}

fn paragraphs(page: &mut String, help: &str) {
    for paragraph in split(help) {
        page.push_str(&format!(".PP\n{}\n", text(&paragraph)));
    }
}

fn split(help: &str) -> Vec<String> {
    help.split("\n\n").map(|paragraph| paragraph.trim().to_owned()).collect()
}

/// As [`plain`], with what stands between backticks in bold.
fn text(help: &str) -> String {
    let marked = help.split('`').enumerate();
    marked.map(|(index, part)| if index % 2 == 1 { format!("\\fB{}\\fR", plain(part)) } else { plain(part) }).collect()
}

/// Words as they are: no backslash, quote or dash means anything (groff_man_style(7)), and no line begins as a request does.
fn plain(words: &str) -> String {
    let escaped = words.replace('\\', "\\e").replace('-', "\\-").replace('\'', "\\(aq");
    let lines = escaped.lines().map(|line| if line.starts_with('.') { format!("\\&{line}") } else { line.to_owned() });
    lines.collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_line_of_a_help_is_a_request() {
        assert_eq!(plain(".TH\n'so x\n\\n--x"), "\\&.TH\n\\(aqso x\n\\en\\-\\-x");
        assert_eq!(text("a `--b` c"), "a \\fB\\-\\-b\\fR c");
    }

    #[test]
    fn each_command_has_a_page() {
        let pages = pages(crate::cli::command());
        let page = |name: &str| pages.iter().find(|(file, _)| file == name).map(|(_, text)| text.as_str()).unwrap();
        assert!(page("ekiben.1").contains("\\fBekiben\\-build\\fR(1)"), "{}", page("ekiben.1"));
        assert!(page("ekiben-build.1").contains("\\fB\\-t, \\-\\-tag"), "{}", page("ekiben-build.1"));
        assert!(page("ekiben-self-man.1").contains(".SH SEE ALSO\n\\fBekiben\\-self\\fR(1)"));
        assert!(!pages.iter().any(|(file, _)| file.contains("help")));
    }
}
