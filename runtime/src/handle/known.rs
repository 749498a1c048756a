//! Names that people give: whether there is anybody of that name, so that a mistyped one is not taken for one who has nothing.

use super::{Answer, Handle, Refusal, RefusalKind};
use crate::name::Identity;
use crate::routing::Selection;
use crate::spelling::nearest;

impl Handle {
    /// The path of what a person names, see [`path_of`].
    pub(super) fn path_of(&self, name: &str) -> String {
        path_of(self.device_id(), name)
    }

    /// `name` is a module, its path or that of one of its inputs, any registered identity, or `$upstream`. `others` are paths of
    /// those that may be meant too, such as modules that were removed.
    pub(super) async fn is_known<'o>(&self, name: &str, others: impl Iterator<Item = &'o str>) -> Answer<()> {
        let path = self.path_of(name);
        let mut identity = path.splitn(6, '/').take(5).collect::<Vec<_>>().join("/");
        if !path.contains("/modules/") {
            identity = path.clone();
        }
        let is_registered =
            identity.parse::<Identity>().is_ok_and(|identity| self.identities.require(&identity).is_ok());
        let of_device = format!("/devices/{}/modules/", self.device_id());
        if name == "$upstream" || is_registered || self.twins.list().iter().any(|t| t.identity.to_string() == identity)
        {
            let end = path.strip_prefix(&identity).and_then(|rest| rest.strip_prefix("/inputs/"));
            return match identity.strip_prefix(&of_device).zip(end) {
                Some((module, end)) => self.end_is_known(module, end).await,
                None => Ok(()),
            };
        }
        let Some(module) = identity.strip_prefix(&of_device) else {
            let hint = "a module is given by its name, others by their path; `dinrail identity list` has them";
            return Err(Refusal::new(RefusalKind::NotFound, format!("there is nobody of the name '{name}'"), hint));
        };
        let Err(unknown) = self.module(module).await else { return Ok(()) };
        let names = others.filter_map(|path| path.split("/modules/").nth(1)?.split('/').next());
        match nearest(module, names) {
            Some(near) if unknown.hint.as_ref().is_none_or(|hint| !hint.starts_with("did you mean")) => {
                Err(Refusal { hint: Some(format!("did you mean '{near}'?")), ..unknown })
            }
            _ => Err(unknown),
        }
    }

    /// Refused where a module whose image is here has neither an input nor an output of this name.
    async fn end_is_known(&self, module: &str, end: &str) -> Answer<()> {
        let (module, end) = (module.to_owned(), end.to_owned());
        match self.ask(move |control, _| control.unknown_end(&module, &end)).await? {
            Some(unknown) => Err(unknown),
            None => Ok(()),
        }
    }

    /// Refused where the source of `FROM … [WHERE …]` names a module or an output that nobody has. What is no route is not: that is
    /// told by whoever takes it.
    pub async fn source_is_known(&self, route: Option<&str>) -> Answer<()> {
        let Some(Ok(Selection { source, .. })) = route.map(Selection::parse) else { return Ok(()) };
        if source.module().is_some_and(|module| module.starts_with('$')) {
            let hint = "what the runtime says itself comes from /twinChangeNotifications and /losses";
            return Err(Refusal::new(RefusalKind::NotFound, "the runtime sends nothing under that name", hint));
        }
        let (identities, device) = (self.identities.clone(), self.device_id().to_owned());
        let is_identity = move |module: &str| {
            Identity::module(&device, module).is_ok_and(|identity| identities.require(&identity).is_ok())
        };
        match self.ask(move |control, _| control.unknown_source(&source, is_identity)).await? {
            Some(unknown) => Err(unknown),
            None => Ok(()),
        }
    }
}

/// A module by its name, its input as `MODULE/INPUT` or as a route writes it, any identity or endpoint by its path.
fn path_of(device: &str, name: &str) -> String {
    if name.starts_with("/modules/") {
        return format!("/devices/{device}{name}");
    }
    if name.starts_with('/') {
        return name.to_owned();
    }
    match name.split_once('/') {
        Some((module, input)) => {
            let input = input.strip_prefix("inputs/").unwrap_or(input);
            format!("/devices/{device}/modules/{module}/inputs/{input}")
        }
        None => format!("/devices/{device}/modules/{name}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_input_is_understood_as_people_and_routes_write_it() {
        let table = [
            ("c", "/devices/D/modules/c"),
            ("c/in", "/devices/D/modules/c/inputs/in"),
            ("c/inputs/in", "/devices/D/modules/c/inputs/in"),
            ("/modules/c", "/devices/D/modules/c"),
            ("/modules/c/inputs/in", "/devices/D/modules/c/inputs/in"),
            ("/devices/E/modules/c/inputs/in", "/devices/E/modules/c/inputs/in"),
        ];
        for (name, path) in table {
            assert_eq!(path_of("D", name), path, "{name}");
        }
    }
}
