import { EmptyState } from './components/states.tsx'
import { path } from './router.ts'
import { useTitle } from './title.ts'

/** At an address that no page has; the server sends it with status 404. */
export function NotFound() {
  useTitle('Not found')
  return (
    <EmptyState
      title="There is no such page"
      text={
        <>
          Nothing is at <code>{path.value}</code>. What programs may ask for is described at <a href="/docs">/docs</a>.
        </>
      }
      action={{ label: 'To the experiments', href: '/' }}
    />
  )
}
