/** An experiment's own words. Each leads to all that have it: within the list by `onChoose`, from elsewhere by a link. */
export function Tags({ tags, onChoose }: { tags: readonly string[]; onChoose?: (tag: string) => void }) {
  if (tags.length === 0) return null
  return (
    <ul class="tags" aria-label="Tags">
      {tags.map((tag) => (
        <li key={tag}>
          {onChoose ? (
            <button type="button" class="tag" title={`Show what has the tag ${tag}`} onClick={() => onChoose(tag)}>
              {tag}
            </button>
          ) : (
            <a class="tag" title={`Show what has the tag ${tag}`} href={`/?tag=${encodeURIComponent(tag)}`}>
              {tag}
            </a>
          )}
        </li>
      ))}
    </ul>
  )
}
