"""What all services of such models share."""

import asyncio
from concurrent.futures import ThreadPoolExecutor

import bentoml


class PicklableModelService:
    def __init__(self):
        self.executor = ThreadPoolExecutor()
        self.loading = asyncio.create_task(self.load())

    async def load(self):
        loop = asyncio.get_event_loop()
        return await loop.run_in_executor(self.executor, bentoml.picklable_model.load_model, self.model_ref)
