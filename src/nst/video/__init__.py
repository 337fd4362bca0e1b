"""Read and write videos one frame at a time: video files, animations and numbered pictures."""

from nst.video.base import DamagedVideo, Frame, Video
from nst.video.read import open_video
from nst.video.write import check_video_output, write_video

__all__ = ["DamagedVideo", "Frame", "Video", "check_video_output", "open_video", "write_video"]
