//! Aligned columns for a person.

use super::out::{Paint, cut, printable};

/// Narrowest that the last column is made to fit a terminal.
const MIN_LAST_COLUMN: usize = 12;

/// A cell: its text, and its colour where there are colours.
pub struct Cell(String, Option<Paint>);

impl Cell {
    /// A cell in a colour.
    pub fn painted(text: impl Into<String>, paint: Paint) -> Cell {
        Cell(text.into(), Some(paint))
    }
}

impl<T: Into<String>> From<T> for Cell {
    fn from(text: T) -> Cell {
        Cell(text.into(), None)
    }
}

/// A head and rows of as many cells.
pub struct Table {
    head: Vec<&'static str>,
    rows: Vec<Vec<Cell>>,
}

impl Table {
    /// A table without rows.
    pub fn new(head: &[&'static str]) -> Table {
        Table { head: head.to_vec(), rows: Vec::new() }
    }

    /// Adds a row.
    pub fn row(&mut self, cells: impl IntoIterator<Item = Cell>) {
        let cells = cells.into_iter().map(|Cell(text, paint)| Cell(printable(&text), paint));
        self.rows.push(cells.collect());
    }

    /// The lines. With a `width`, the last column is cut so that they fit.
    pub fn render(&self, width: Option<usize>, colour: bool) -> String {
        let last = self.head.len() - 1;
        let widths: Vec<usize> = (0..last)
            .map(|column| {
                let cells = self.rows.iter().map(|row| row[column].0.chars().count());
                cells.chain([self.head[column].len()]).max().unwrap_or(0)
            })
            .collect();
        let before_last: usize = widths.iter().map(|width| width + 2).sum();
        let room = width.map(|width| width.saturating_sub(before_last).max(MIN_LAST_COLUMN));
        let mut text = String::new();
        let mut line = |cells: &mut dyn Iterator<Item = (&str, Option<Paint>)>| {
            let mut line = String::new();
            for (column, (cell, paint)) in cells.enumerate() {
                let shown =
                    if column == last { room.map_or(cell.to_owned(), |room| cut(cell, room)) } else { cell.into() };
                let padding = widths.get(column).map_or(0, |width| width + 2 - shown.chars().count());
                line += &paint.filter(|_| colour).map_or(shown.clone(), |paint| paint.around(&shown));
                line += &" ".repeat(padding);
            }
            text += line.trim_end();
            text += "\n";
        };
        line(&mut self.head.iter().map(|head| (*head, None)));
        for row in &self.rows {
            line(&mut row.iter().map(|cell| (cell.0.as_str(), cell.1)));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let mut table = Table::new(&["NAME", "STATUS", "DESCRIPTION"]);
        table.row(["filter".into(), Cell::painted("running", Paint::Green), "2 of 3 sensors answer".into()]);
        table.row(["a".into(), "backoff".into(), "".into()]);
        table
    }

    #[test]
    fn columns_are_aligned_and_whole_where_there_is_no_terminal() {
        let expected = "\
NAME    STATUS   DESCRIPTION
filter  running  2 of 3 sensors answer
a       backoff
";
        assert_eq!(table().render(None, false), expected);
    }

    #[test]
    fn last_column_is_cut_to_the_terminal() {
        let text = table().render(Some(32), false);

        assert!(text.contains("filter  running  2 of 3 sensors…\n"), "{text}");
        assert!(text.lines().all(|line| line.chars().count() <= 32));
    }

    #[test]
    fn colours_do_not_shift_columns() {
        let text = table().render(None, true);

        assert!(text.contains("filter  \x1b[32mrunning\x1b[0m  2 of 3"), "{text:?}");
    }
}
