//! Files that nobody thought of: made at random from what compose files are made of, and cut and crossed.

use super::*;

/// Files a test; many more were tried once.
const ROUNDS: u64 = 300;

/// A small generator of random numbers, so that a failure can be repeated by its seed.
struct Dice(u64);

impl Dice {
    /// Below `n`.
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 33).unwrap() % n
    }

    fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    fn of<'a>(&mut self, items: &[&'a str]) -> &'a str {
        items[self.below(items.len())]
    }
}

/// Fields as people write them; `@` stands for the indentation of one step more than the field's.
const FIELDS: &[&str] = &[
    "command: [\"run\", 'x: y', z]",
    "command: >\n@run\n@  --this\n\n@--that",
    "command: |+\n@a # no comment\n\n",
    "entrypoint:\n@- /bin/sh\n@- -c\n@-   echo 'ü'",
    "environment:\n@A: \"1\"\n@B:\n@# why\n@C: x y",
    "environment: {A: '1', B: \"two\"}   # flow",
    "ports:\n@- \"8080:80\"  # http\n\n@# more\n@- 9000-9001:9000-9001/udp",
    "ports: [\"443:443\",\n@\"22:22\"]",
    "ports:\n- 80:80",
    "expose: ['3000']",
    "networks: [front, \"back\"]",
    "networks:\n@front:\n@back: {aliases: [x]}",
    "networks: *nets",
    "hostname: h",
    "dns: 8.8.8.8",
    "extra_hosts:\n@- \"h:1.2.3.4\"",
    "volumes:\n@- ./a:/a:ro\n@-\n@  type: volume",
    "restart: \"no\"",
    "deploy: {resources: {limits: {memory: 50M}}}",
    "healthcheck:\n@test: [\"CMD\", \"true\"]\n@interval: 1m",
    "depends_on: [s0]",
    "depends_on:\n@s0:\n@  condition: service_started",
    "labels: {leno.dev/inject: \"false\"}",
    "labels:\n@- leno.dev/job=true\n@- a=b",
    "profiles: [p]",
    "logging: *log",
    "<<: *base",
    "\"tty\": true",
    "x-own:\n@deep: [{a: b}, [c]]",
];

fn file(dice: &mut Dice) -> String {
    let step = [2, 4, 3][dice.below(3)];
    let mut out = String::new();
    if dice.one_in(2) {
        out.push_str(dice.of(&["# head\n", "---\n", "version: '3.8'\n\n", "\n"]));
    }
    out.push_str("x-nets: &nets [front, back]\nx-log: &log {driver: none}\n");
    out.push_str(dice.of(&[
        "x-base: &base\n  restart: always\n",
        "x-base: &base\n  restart: always\n  dns: 1.1.1.1\n",
        "x-base: &base {networks: [front], tty: true}\n",
    ]));
    if dice.one_in(3) {
        out.push_str(dice.of(&["secrets: {s: {file: ./s}}\n", "secrets:\n  s:\n    file: ./s\n", "secrets:\n"]));
    }
    out.push_str("services:\n");
    for n in 0..=dice.below(4) {
        service(dice, n, step, &mut out);
    }
    out.push_str("networks:\n  front:\n  back:\n");
    if dice.one_in(3) {
        out.push_str(dice.of(&["# tail\n", "x-tail: 1\n", "\n\n", "...\n"]));
    }
    if dice.one_in(4) {
        out.truncate(out.trim_end().len());
    }
    if dice.one_in(4) { out.replace('\n', "\r\n") } else { out }
}

fn service(dice: &mut Dice, n: usize, step: usize, out: &mut String) {
    let indent = " ".repeat(step);
    if dice.one_in(4) {
        out.push_str(&format!("\n{indent}# about s{n}\n"));
    }
    if dice.one_in(6) && n > 0 {
        out.push_str(&format!("{indent}s{n}: {{image: a, ports: ['80:80'], <<: *base}}\n"));
        return;
    }
    out.push_str(&format!("{indent}s{n}:{}\n", dice.of(&["", "", &format!(" &s{n}"), "  # why"])));
    let mut keys = vec!["image"];
    let mut lines = vec![format!("image: i{n}")];
    for _ in 0..dice.below(8) {
        let field = dice.of(FIELDS);
        let key = field.split(':').next().unwrap_or_default();
        let of_itself = field.contains("s0") && n == 0;
        if !keys.contains(&key) && !of_itself {
            keys.push(key);
            lines.push(field.replace('@', &indent));
        }
    }
    let first = dice.below(lines.len());
    lines.swap(0, first);
    for line in lines {
        for part in line.split('\n') {
            let inner = format!("{indent}{indent}{part}");
            out.push_str(inner.trim_end());
            out.push('\n');
        }
        if dice.one_in(6) {
            out.push_str(dice.of(&["\n", "    # between\n", "# at the margin\n"]));
        }
    }
}

#[test]
fn random_files_come_back_byte_for_byte_and_are_injected_once() {
    let mut taken = 0;
    for seed in 1..=ROUNDS {
        let mut dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let text = file(&mut dice);
        match inject(&text, "c.yml", &options()) {
            Ok(_) => {
                round(&text);
                taken += 1;
            }
            // All that may be refused: every service said that it stays outside.
            Err(problems) => assert!(problems[0].message.contains("no service"), "seed {seed}: {problems:#?}\n{text}"),
        }
    }
    assert!(taken > ROUNDS * 3 / 4, "only {taken} were taken");
}

#[test]
fn damaged_files_are_taken_or_refused_and_never_half() {
    let corpus = corpus();
    for seed in 1..=ROUNDS {
        let mut dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let mut text: Vec<char> = corpus[dice.below(corpus.len())].1.chars().collect();
        for _ in 0..=dice.below(4) {
            let at = dice.below(text.len());
            match dice.below(4) {
                0 => drop(text.remove(at)),
                1 => text.insert(
                    at,
                    dice.of(&[" ", "\n", ":", "-", "{", "]", "\"", "#", "*a", "&", "!"]).chars().next().unwrap(),
                ),
                2 => {
                    let other = dice.below(text.len());
                    text.swap(at, other);
                }
                _ => text.truncate(at + 1),
            }
        }
        let text: String = text.into_iter().collect();
        if let Ok(done) = inject(&text, "c.yml", &options()) {
            assert_eq!(marks::remove(&done.text).unwrap(), text, "seed {seed}");
            assert_eq!(injected_text(&done.text), done.text, "seed {seed}");
        }
    }
}
