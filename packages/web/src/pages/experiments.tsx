import { PageHead } from '../components/page-head.tsx'
import { EmptyState } from '../components/states.tsx'
import { useTitle } from '../title.ts'

export default function Page() {
  useTitle('Experiments')
  return (
    <>
      <PageHead title="Experiments" />
      <EmptyState title="Not here yet" text="This page is being built." />
    </>
  )
}
