/** A table that sorts by its heads, lets rows be chosen, and becomes cards on a phone. */
import type { ComponentChildren } from 'preact'
import { Icon } from './icon.tsx'

export interface Column<T> {
  id: string
  label: string
  /** The cell; its text also stands for it on a phone, where the label is written beside it. */
  cell: (row: T) => ComponentChildren
  /** What to sort by; left out, the column can't be sorted. null goes to the end. */
  sort?: (row: T) => string | number | null
  align?: 'right'
  /** Left out where the window is narrower: medium below 1400 px, wide below 1700 px. */
  from?: 'medium' | 'wide'
  /** Its head is for screen readers alone: of buttons that say what they do. */
  quiet?: boolean
  /** The name of the row: a heading on a phone. */
  main?: boolean
}

export interface Sorting {
  by: string
  descending: boolean
}

export interface TableProps<T> {
  /** What it shows, for screen readers. */
  caption: string
  columns: readonly Column<T>[]
  rows: readonly T[]
  rowKey: (row: T) => string
  /** Cells break their words anywhere: long paths. */
  wrapping?: boolean
  sorting?: Sorting
  onSort?: (sorting: Sorting) => void
  /** Keys of the rows that are chosen; without it there are no boxes. */
  selected?: ReadonlySet<string>
  onSelect?: (selected: Set<string>) => void
}

export function sorted<T>(rows: readonly T[], columns: readonly Column<T>[], sorting: Sorting | undefined): T[] {
  const value = columns.find((column) => column.id === sorting?.by)?.sort
  if (!sorting || !value) return [...rows]
  const order = sorting.descending ? -1 : 1
  return rows.toSorted((a, b) => {
    const [x, y] = [value(a), value(b)]
    if (x === null || y === null) return x === y ? 0 : x === null ? 1 : -1
    return order * (typeof x === 'string' ? x.localeCompare(String(y)) : x - Number(y))
  })
}

export function Table<T>(props: TableProps<T>) {
  const { caption, columns, rows, rowKey, sorting, selected, onSelect } = props
  const all = selected !== undefined && rows.length > 0 && rows.every((row) => selected.has(rowKey(row)))
  const choose = (keys: string[], on: boolean) => {
    const next = new Set(selected)
    for (const key of keys) on ? next.add(key) : next.delete(key)
    onSelect?.(next)
  }
  return (
    <div class="table-wrap">
      <table class={props.wrapping ? 'table wrapping' : 'table'}>
        <caption class="visually-hidden">{caption}</caption>
        <thead>
          <tr>
            {selected && (
              <th class="choose">
                <input
                  type="checkbox"
                  aria-label="Choose all"
                  checked={all}
                  onChange={(event) => choose(rows.map(rowKey), event.currentTarget.checked)}
                />
              </th>
            )}
            {columns.map((column) => (
              <Head key={column.id} column={column} sorting={sorting} onSort={props.onSort} />
            ))}
          </tr>
        </thead>
        <tbody>
          {sorted(rows, columns, sorting).map((row) => {
            const key = rowKey(row)
            return (
              <tr key={key} class={selected?.has(key) ? 'chosen' : undefined}>
                {selected && (
                  <td class="choose">
                    <input
                      type="checkbox"
                      aria-label={`Choose ${key}`}
                      checked={selected.has(key)}
                      onChange={(event) => choose([key], event.currentTarget.checked)}
                    />
                  </td>
                )}
                {columns.map((column) => (
                  <td key={column.id} class={classOf(column)} data-label={column.quiet ? undefined : column.label}>
                    {column.cell(row)}
                  </td>
                ))}
              </tr>
            )
          })}
        </tbody>
      </table>
    </div>
  )
}

const classOf = <T,>({ align, from, main }: Column<T>) =>
  [align === 'right' && 'right', from && `from-${from}`, main && 'name-cell'].filter(Boolean).join(' ') || undefined

function Head<T>({ column, sorting, onSort }: { column: Column<T> } & Pick<TableProps<T>, 'sorting' | 'onSort'>) {
  const { id, label, sort, quiet = false } = column
  const active = sorting?.by === id
  const direction = active ? (sorting.descending ? 'descending' : 'ascending') : undefined
  return (
    <th scope="col" class={classOf(column)} aria-sort={direction}>
      {sort && onSort ? (
        <button
          type="button"
          class="sort"
          onClick={() => onSort({ by: id, descending: active ? !sorting.descending : false })}
        >
          {label}
          {active && <Icon name={sorting.descending ? 'down' : 'up'} size={14} />}
        </button>
      ) : quiet ? (
        <span class="visually-hidden">{label}</span>
      ) : (
        label
      )}
    </th>
  )
}
