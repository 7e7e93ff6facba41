//! The names that `--scenes` accepts: two families of scenes, and each scene.

use clap::ValueEnum;
use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};

use crate::failure::Failure;
use crate::memory::hostile;
use crate::memory::scenes::Scene;

const LOADS: &str = "loads";
const HOSTILE: &str = "hostile";

/// A name on the command line.
#[derive(Clone, Copy, Debug)]
pub enum SceneName {
    /// All loads of a single client.
    AllLoads,
    /// All hostile scenes.
    AllHostile,
    /// A load of a single client.
    Load(Scene),
    /// A hostile scene.
    Hostile(&'static hostile::Scene),
}

/// The selected scenes, all of the same family.
#[derive(Clone, Debug)]
pub enum Selected {
    /// Loads of a single client.
    Loads(Vec<Scene>),
    /// Hostile scenes.
    Hostile(Vec<&'static hostile::Scene>),
}

impl SceneName {
    /// Returns a parser for the names, which lists them in `--help`.
    pub fn parser() -> impl TypedValueParser<Value = SceneName> {
        PossibleValuesParser::new(Self::all().map(Self::possible_value)).try_map(|name| {
            let is_named = |scene: &SceneName| scene.possible_value().matches(&name, false);
            Self::all().find(is_named).ok_or("no such scene")
        })
    }

    fn all() -> impl Iterator<Item = SceneName> {
        let loads = Scene::ALL.into_iter().map(SceneName::Load);
        let attacks = hostile::scenes().map(SceneName::Hostile);
        let families = [SceneName::AllLoads, SceneName::AllHostile].into_iter();
        families.chain(loads).chain(attacks)
    }

    fn possible_value(self) -> PossibleValue {
        match self {
            SceneName::AllLoads => PossibleValue::new(LOADS).help("All loads of one client"),
            SceneName::AllHostile => {
                PossibleValue::new(HOSTILE).help("All scenes with hostile clients")
            }
            SceneName::Load(scene) => scene.to_possible_value().expect("no load is hidden"),
            SceneName::Hostile(scene) => PossibleValue::new(scene.name).help(scene.help),
        }
    }
}

/// Returns the named scenes, without duplicates and in the order in which they run; all loads if no
/// name is given. Fails if the families are mixed, as their results differ in form.
pub fn select(names: &[SceneName]) -> Result<Selected, Failure> {
    let is_chosen = |scene: &Scene| {
        let includes = |name: &SceneName| match name {
            SceneName::AllLoads => true,
            SceneName::Load(own) => own == scene,
            _ => false,
        };
        names.is_empty() || names.iter().any(includes)
    };
    let is_attack = |scene: &&'static hostile::Scene| {
        names.iter().any(|name| match name {
            SceneName::AllHostile => true,
            SceneName::Hostile(own) => own.name == scene.name,
            _ => false,
        })
    };
    let loads: Vec<Scene> = Scene::ALL.into_iter().filter(is_chosen).collect();
    let attacks: Vec<_> = hostile::scenes().filter(is_attack).collect();
    match (loads.is_empty(), attacks.is_empty()) {
        (false, false) => Err(Failure::Usage(
            "--scenes: loads and hostile scenes are run separately".to_string(),
        )),
        (true, _) => Ok(Selected::Hostile(attacks)),
        (false, true) => Ok(Selected::Loads(loads)),
    }
}

#[cfg(test)]
mod tests {
    use super::{SceneName, Selected, select};
    use clap::{Arg, Command};
    use std::collections::BTreeSet;

    fn parse(names: &str) -> Result<Selected, String> {
        let scenes = Arg::new("scenes")
            .value_delimiter(',')
            .value_parser(SceneName::parser());
        let matches = Command::new("test")
            .arg(scenes.num_args(0..))
            .try_get_matches_from(
                std::iter::once("test").chain((!names.is_empty()).then_some(names)),
            );
        let matches = matches.map_err(|error| error.to_string())?;
        let names: Vec<SceneName> = matches
            .get_many("scenes")
            .map_or(Vec::new(), |values| values.copied().collect());
        select(&names).map_err(|failure| failure.to_string())
    }

    fn names(selected: Selected) -> Vec<&'static str> {
        match selected {
            Selected::Loads(scenes) => scenes.iter().map(|scene| scene.name()).collect(),
            Selected::Hostile(scenes) => scenes.iter().map(|scene| scene.name).collect(),
        }
    }

    #[test]
    fn families_and_scenes_are_selected_by_name() {
        let loads = names(parse("loads").unwrap());
        assert_eq!(loads[0], "fill");
        assert_eq!(names(parse("").unwrap()), loads);
        let hostile = names(parse("hostile").unwrap());
        assert_eq!(hostile[0], "get-300");
        assert_eq!(hostile.last(), Some(&"udp"));
        assert_eq!(names(parse("table,fill").unwrap()), ["fill", "table"]);
        assert_eq!(names(parse("udp,get,udp").unwrap()), ["get", "udp"]);
    }

    #[test]
    fn unknown_and_mixed_names_are_refused() {
        assert!(parse("nothing").unwrap_err().contains("half-values"));
        assert!(parse("fill,udp").unwrap_err().contains("separately"));
    }

    #[test]
    fn names_are_unique() {
        let all: Vec<SceneName> = SceneName::all().collect();
        let names = all
            .iter()
            .map(|name| name.possible_value().get_name().to_string());
        assert_eq!(names.collect::<BTreeSet<_>>().len(), all.len());
    }
}
