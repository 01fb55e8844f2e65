use super::*;

fn parse(text: &str) -> Result<Config, ConfigError> {
    Config::parse(text, Path::new("/etc/convoke/convoke.toml"), "n1.example")
}

fn mistakes(text: &str) -> String {
    parse(text).expect_err("a mistake").to_string()
}

#[test]
fn an_empty_file_is_enough() {
    let config = parse("").expect("defaults");
    let expected = Config {
        name: "n1.example".to_owned(),
        listen: "[::]:7433".parse().expect("address"),
        advertise: Vec::new(),
        role: None,
        log: LogLevel::Info,
        watchdog: Setting { device: PathBuf::from("/dev/watchdog"), timeout_s: 5 },
    };
    assert_eq!(config, expected);
}

#[test]
fn every_key_is_read() {
    let config = parse(
        "name = 'db-1'\nlisten = '10.0.0.1:1'\nadvertise = ['10.0.0.1', 'fd00::1']\nrole = 'witness'\nlog = 'debug'\n\
         [watchdog]\ndevice = '/dev/watchdog1'\ntimeout = '10s'\n",
    )
    .expect("settings");
    let address = |text: &str| text.parse::<SocketAddr>().expect("address");
    assert_eq!(config.name, "db-1");
    assert_eq!(config.listen, address("10.0.0.1:1"));
    assert_eq!(config.advertise, [address("10.0.0.1:7433"), address("[fd00::1]:7433")]);
    assert_eq!((config.role, config.log), (Some(Role::Witness), LogLevel::Debug));
    assert_eq!(config.watchdog, Setting { device: PathBuf::from("/dev/watchdog1"), timeout_s: 10 });
}

#[test]
fn an_unknown_key_is_shown_where_it_stands() {
    assert_eq!(
        mistakes("# this node\nname = \"n1\"\n  lisen = \":1\"\n"),
        "\
error: unknown field `lisen`, expected one of `name`, `listen`, `advertise`, `role`, `log`, `watchdog`
 --> /etc/convoke/convoke.toml:3:3
  |
3 |   lisen = \":1\"
  |   ^^^^^
  = help: the keys of this file are `name`, `listen`, `advertise`, `role` and `log`, and below `[watchdog]` `device` and \
`timeout`; what concerns the whole cluster is shown and changed by `convoke config`"
    );
}

#[test]
fn all_wrong_values_are_shown_at_once() {
    assert_eq!(
        mistakes("name = \"ä b\"\nadvertise = [\"10.0.0.1\", \"db.example\", \"[::]:7433\"]\n\trole = \"boss\"\n"),
        "\
error: `ä b` cannot name a node
 --> /etc/convoke/convoke.toml:1:8
  |
1 | name = \"ä b\"
  |        ^^^^^
  = help: a name has 1 to 253 letters, digits, `-`, `_` or `.`

error: `db.example` is not an address
 --> /etc/convoke/convoke.toml:2:26
  |
2 | advertise = [\"10.0.0.1\", \"db.example\", \"[::]:7433\"]
  |                          ^^^^^^^^^^^^
  = help: write `10.0.0.1`, `10.0.0.1:7433`, `fd00::1` or `[fd00::1]:7433`; host names are not looked up, as the \
cluster must work without DNS

error: nobody can reach `[::]:7433`
 --> /etc/convoke/convoke.toml:2:40
  |
2 | advertise = [\"10.0.0.1\", \"db.example\", \"[::]:7433\"]
  |                                        ^^^^^^^^^^^
  = help: give the address under which the other nodes reach this one; without `advertise` it is found out

error: `boss` is not a role
 --> /etc/convoke/convoke.toml:3:9
  |
3 | \trole = \"boss\"
  | \t       ^^^^^^
  = help: a node is a `voter`, a `member` (no vote) or a `witness` (a vote and no units); without `role` the cluster \
decides"
    );
}

#[test]
fn broken_toml_is_shown_where_it_breaks() {
    let text = mistakes("name = \"n1\"\nlisten = [\n");
    assert!(text.contains("--> /etc/convoke/convoke.toml:"), "{text}");
    assert!(text.contains("= help: this file is TOML"), "{text}");
    let text = mistakes("log = 3\n");
    assert!(
        text.starts_with(
            "error: invalid type: integer `3`, expected a string\n --> /etc/convoke/convoke.toml:1:7"
        ),
        "{text}"
    );
}

#[test]
fn a_machine_without_a_usable_name_is_told_to_get_one() {
    let error = Config::parse("", Path::new("/etc/convoke/convoke.toml"), "(none)").expect_err("no name");
    assert_eq!(
        error.to_string(),
        "this machine is called `(none)`, which cannot name a node; set `name = \"…\"` in /etc/convoke/convoke.toml"
    );
}

#[test]
fn a_watchdog_has_a_path_and_a_time_that_makes_sense() {
    for (text, message) in [
        ("device = 'watchdog0'", "`watchdog0` is no path"),
        ("timeout = '1s'", "`1s` is no timeout of a watchdog"),
        ("timeout = '601s'", "`601s` is no timeout of a watchdog"),
        ("timeout = '5'", "`5` is no timeout of a watchdog"),
        ("timeout = '2.5s'", "`2.5s` is no timeout of a watchdog"),
    ] {
        let found = mistakes(&format!("[watchdog]\n{text}\n"));
        assert!(found.contains(message) && found.contains("convoke.toml:2:"), "{found}");
    }
}
